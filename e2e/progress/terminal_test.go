package progress

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unicode/utf8"

	"github.com/creack/pty"

	"ckpt/e2e/harness"
)

// terminal is one that somebody sits at.
type terminal struct {
	t    *testing.T
	keys *os.File // typed, and shown
	tty  *os.File // the programs' end
	cols int
	term string // $TERM

	mu    sync.Mutex
	shown string // all that was written to it
}

func newTerminal(t *testing.T, cols int) *terminal {
	t.Helper()
	keys, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{t: t, keys: keys, tty: tty, term: "xterm"}
	term.resize(cols)
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 4096)
		for {
			n, err := keys.Read(b)
			term.mu.Lock()
			term.shown += string(b[:n])
			term.mu.Unlock()
			if err != nil { // EIO: all have closed it
				return
			}
		}
	}()
	t.Cleanup(func() {
		term.tty.Close()
		keys.Close()
		<-done
	})
	return term
}

func (m *terminal) resize(cols int) {
	m.t.Helper()
	m.cols = cols
	if err := pty.Setsize(m.keys, &pty.Winsize{Rows: 24, Cols: uint16(cols)}); err != nil {
		m.t.Fatal(err)
	}
}

// types a key, or more.
func (m *terminal) types(keys string) {
	m.t.Helper()
	if _, err := m.keys.WriteString(keys); err != nil {
		m.t.Fatal(err)
	}
}

// start starts cmd as the leader of a session on the terminal. What it has no other
// output or input for is there.
func (m *terminal) start(cmd *exec.Cmd) {
	m.t.Helper()
	cmd.Env = append(cmd.Env, "TERM="+m.term)
	if cmd.Stdin == nil {
		cmd.Stdin = m.tty
	}
	if cmd.Stdout == nil {
		cmd.Stdout = m.tty
	}
	cmd.Stderr = m.tty
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setsid, cmd.SysProcAttr.Setctty, cmd.SysProcAttr.Ctty = true, true, 2
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
}

// all is everything that was ever written to it.
func (m *terminal) all() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.shown
}

// shows waits until something has been there, and gives it.
func (m *terminal) shows(text string) string {
	m.t.Helper()
	re, found := regexp.MustCompile(text), ""
	harness.Eventually(m.t, "the terminal shows "+text, func() error {
		if found = re.FindString(m.all()); found == "" {
			return fmt.Errorf("it shows %q", m.all())
		}
		return nil
	})
	return found
}

var escape = regexp.MustCompile(`^\x1b\[(\d*)([AJ])`)

// screen is what stands there now, as a terminal of cols columns shows it; what else
// than ckpt needs moves the cursor is an error.
func (m *terminal) screen() (string, error) {
	lines, row, col := [][]rune{nil}, 0, 0
	for text := m.all(); text != ""; {
		if e := escape.FindStringSubmatch(text); e != nil {
			text = text[len(e[0]):]
			if e[2] == "A" {
				n, _ := strconv.Atoi(e[1])
				row = max(row-max(n, 1), 0)
				continue
			}
			lines = lines[:row+1]
			lines[row] = lines[row][:min(col, len(lines[row]))]
			continue
		}
		r, size := utf8.DecodeRuneInString(text)
		text = text[size:]
		switch {
		case r == '\r':
			col = 0
			continue
		case r == '\n':
			row++
		case r < ' ' || r == utf8.RuneError:
			return "", fmt.Errorf("%q before %q", r, text)
		default:
			if col == m.cols {
				row, col = row+1, 0
			}
		}
		for len(lines) <= row {
			lines = append(lines, nil)
		}
		if r == '\n' {
			continue
		}
		for len(lines[row]) <= col {
			lines[row] = append(lines[row], ' ')
		}
		lines[row][col] = r
		col++
	}
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(strings.TrimRight(string(l), " ") + "\n")
	}
	return strings.TrimRight(b.String(), "\n"), nil
}

// ends waits for cmd, which ends with code, and for the screen to be like want.
func (m *terminal) ends(cmd *exec.Cmd, code int, want string) {
	m.t.Helper()
	err := cmd.Wait()
	if e := (*exec.ExitError)(nil); err != nil && !errors.As(err, &e) {
		m.t.Fatal(err)
	}
	re := regexp.MustCompile("^(?:" + want + ")$")
	harness.Eventually(m.t, "the screen is like "+want, func() error {
		got, err := m.screen()
		if err == nil && !re.MatchString(got) {
			err = fmt.Errorf("it is\n%s\nafter %q", got, m.all())
		}
		return err
	})
	if got := cmd.ProcessState.ExitCode(); got != code {
		m.t.Errorf("exit code %d, want %d; the terminal shows %q", got, code, m.all())
	}
}
