package harness

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"

	"github.com/charmbracelet/x/vt"
	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// Terminal is one that a person sits at, with a program that runs on it.
type Terminal struct {
	Env  *Env
	Cmd  *exec.Cmd
	pty  *os.File
	mu   sync.Mutex // of screen
	vt   *vt.Emulator
	read chan struct{} // closed when nothing more comes
}

// Terminal opens a terminal and runs a command on it.
func (e *Env) Terminal(rows, cols uint16, command ...string) *Terminal {
	e.T.Helper()
	t := &Terminal{Env: e, vt: vt.NewEmulator(int(cols), int(rows)), read: make(chan struct{})}
	t.Cmd = e.Command(context.Background(), command[0], command[1:]...)
	t.Cmd.Env = append(t.Cmd.Env, "TERM=xterm-256color")
	if t.Cmd.SysProcAttr == nil {
		t.Cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	t.Cmd.SysProcAttr.Setsid, t.Cmd.SysProcAttr.Setctty = true, true
	var err error
	if t.pty, err = pty.StartWithAttrs(t.Cmd, &pty.Winsize{Rows: rows, Cols: cols}, t.Cmd.SysProcAttr); err != nil {
		e.T.Fatal(err)
	}
	e.T.Cleanup(t.Close)
	go t.answer()
	go t.show()
	return t
}

// show is the screen.
func (t *Terminal) show() {
	defer close(t.read)
	b := make([]byte, 4096)
	for {
		n, err := t.pty.Read(b)
		t.mu.Lock()
		_, _ = t.vt.Write(b[:max(n, 0)])
		t.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// answer is what a terminal types by itself.
func (t *Terminal) answer() {
	b := make([]byte, 4096)
	for {
		n, err := t.vt.Read(b)
		if err != nil {
			return
		}
		_, _ = t.pty.Write(b[:n])
	}
}

// Close takes the terminal away, as a window that is closed.
func (t *Terminal) Close() {
	if t.pty == nil {
		return
	}
	_ = t.pty.Close()
	_ = t.Cmd.Process.Kill()
	_ = t.Cmd.Wait()
	<-t.read
	_ = t.vt.Close()
	t.pty = nil
}

// Type types.
func (t *Terminal) Type(keys string) {
	t.Env.T.Helper()
	if _, err := t.pty.WriteString(keys); err != nil {
		t.Env.T.Fatal(err)
	}
}

// Run types a command into the shell, and waits until the screen has wanted.
func (t *Terminal) Run(command, wanted string) {
	t.Env.T.Helper()
	t.Type(command + "\r")
	t.Shows(wanted)
}

// Text is the screen, without spaces at the ends of lines.
func (t *Terminal) Text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var lines []string
	for l := range strings.Lines(t.vt.String()) {
		lines = append(lines, strings.TrimRight(l, " \n"))
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n") + "\n"
}

// Picture is the screen with its colours, and where the cursor is.
func (t *Terminal) Picture() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return fmt.Sprintf("%s\n%v %v", t.vt.Render(), t.vt.CursorPosition(), t.vt.IsAltScreen())
}

// Gone are the lines that have left the screen at its top.
func (t *Terminal) Gone() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var lines []string
	for _, l := range t.vt.Scrollback().Lines() {
		lines = append(lines, l.String())
	}
	return strings.Join(lines, "\n")
}

// Shows waits until the screen has wanted: a line of its own where it begins with
// "^", or ends with "$".
func (t *Terminal) Shows(wanted string) {
	t.Env.T.Helper()
	at := strings.HasPrefix(wanted, "^")
	want := strings.TrimPrefix(wanted, "^")
	if end := strings.HasSuffix(want, "$"); end {
		want = strings.TrimSuffix(want, "$") + "\n"
	}
	if at {
		want = "\n" + want
	}
	want = strings.ReplaceAll(want, " \n", "\n") // as Text has it
	t.Until("the screen has "+wanted, func(text string) bool { return strings.Contains("\n"+text, want) })
}

// Until waits until the screen is as ok says.
func (t *Terminal) Until(what string, ok func(text string) bool) {
	t.Env.T.Helper()
	Eventually(t.Env.T, what, func() error {
		text := t.Text()
		if ok(text) {
			return nil
		}
		err := fmt.Errorf("it is:\n%s", text)
		select {
		case <-t.read:
			return Final{Err: err}
		default:
			return err
		}
	})
}

// Same waits until the screen is the picture.
func (t *Terminal) Same(picture string) {
	t.Env.T.Helper()
	Eventually(t.Env.T, "the screen is the same", func() error {
		if is := t.Picture(); is != picture {
			return fmt.Errorf("it was:\n%s\nand is:\n%s", picture, is)
		}
		return nil
	})
}

// Resize gives the window another size.
func (t *Terminal) Resize(rows, cols uint16) {
	t.Env.T.Helper()
	t.mu.Lock()
	t.vt.Resize(int(cols), int(rows))
	t.mu.Unlock()
	if err := pty.Setsize(t.pty, &pty.Winsize{Rows: rows, Cols: cols}); err != nil {
		t.Env.T.Fatal(err)
	}
}

// Attributes are those of the terminal.
func (t *Terminal) Attributes() unix.Termios {
	t.Env.T.Helper()
	a, err := unix.IoctlGetTermios(int(t.pty.Fd()), unix.TCGETS)
	if err != nil {
		t.Env.T.Fatal(err)
	}
	return *a
}

// Hidden tells whether the cursor is.
func (t *Terminal) Hidden() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.vt.CursorHidden()
}
