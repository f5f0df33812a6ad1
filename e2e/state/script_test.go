package state

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"ckpt/e2e/harness"
)

// underScript answers what it reads from a FIFO with its terminal: which one it
// is and of what size, then its own group, the number of the terminal, and the
// group in the foreground (proc_pid_stat(5)).
const underScript = `stty rows 21 cols 43 -echo
while read -r line <ask; do
	echo "$line: $(tty) $(stty size) $(cut -d ' ' -f 5,7,8 /proc/$$/stat)"
done`

// TestScript: a shell under script(1) keeps its terminal.
func TestScript(t *testing.T) {
	for _, user := range harness.Users() {
		t.Run("as "+user, func(t *testing.T) {
			e := harness.New(t, user)
			if err := errors.Join(syscall.Mkfifo(e.Join("ask"), 0o600), os.Chown(e.Join("ask"), e.UID, e.GID)); err != nil {
				t.Fatal(err)
			}
			e.WriteFile("answer.sh", underScript)
			c := e.Start("script", nil, harness.Tool(t, "script"), "-qfc", "sh answer.sh", "/dev/null")
			ask := func(n int) string {
				t.Helper()
				// Blocks until the shell opens the other end.
				if err := os.WriteFile(e.Join("ask"), fmt.Appendf(nil, "ask %d\n", n), 0); err != nil {
					t.Fatal(err)
				}
				answer := ""
				harness.Eventually(t, "it answers", func() error {
					_, after, ok := strings.Cut(c.Log(), fmt.Sprintf("ask %d: ", n))
					if answer, _, _ = strings.Cut(after, "\r\n"); ok && strings.Contains(after, "\r\n") {
						return nil
					}
					if err := c.Alive(); err != nil {
						return err
					}
					return fmt.Errorf("so far: %q", c.Log())
				})
				return answer
			}
			want := ask(1)
			if !strings.HasPrefix(want, "/dev/pts/") || !strings.Contains(want, " 21 43 ") || strings.HasSuffix(want, " -1") {
				t.Fatalf("its terminal is %q", want)
			}
			for n := 2; n <= 3; n++ {
				asleep(t, c)
				image := e.Join(fmt.Sprintf("image%d", n))
				c.Dump(image)
				e.Restore(image, "")
				if got := ask(n); got != want {
					t.Errorf("its terminal was %q, is %q", want, got)
				}
			}
			// The number of its terminal is free in each copy.
			for _, name := range []string{"copy1", "copy2"} {
				if err := e.Restore(e.Join("image3"), name).Alive(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestTmux: a server with a pane, and a client at a terminal of script(1), which
// types an end of file there as its own input ends.
func TestTmux(t *testing.T) {
	tmux := harness.Tool(t, "tmux")
	for _, user := range harness.Users() {
		t.Run("as "+user, func(t *testing.T) {
			e := harness.New(t, user)
			c := e.Start("tmux", []string{"--env", "TERM=vt100", "--env", "SHELL=/bin/sh"}, harness.Tool(t, "script"), "-qfc",
				tmux+` -S socket new-session 'echo read: nothing; while :; do read -r line && echo "read: $line"; done'`, "/dev/null")
			says := func(word string) {
				t.Helper()
				harness.Eventually(t, "the client shows it", func() error {
					if !strings.Contains(c.Log(), "read: "+word) {
						return errors.Join(fmt.Errorf("so far: %q", c.Log()), c.Alive())
					}
					return nil
				})
			}
			says("nothing")
			for n, word := range []string{"one", "two", "three"} {
				e.Run("exec", c.Name, "--", tmux, "-S", e.Join("socket"), "send-keys", word, "Enter")
				says(word)
				asleep(t, c)
				image := e.Join(fmt.Sprintf("image%d", n))
				c.Dump(image)
				e.Restore(image, "")
			}
			e.Run("exec", c.Name, "--", tmux, "-S", e.Join("socket"), "kill-server")
			e.Run("wait", c.Name)
		})
	}
}

// asleep waits until every thread of the container waits for something.
func asleep(t *testing.T, c *harness.Container) {
	t.Helper()
	harness.Eventually(t, "every thread sleeps", func() error {
		for _, p := range c.Ps().Processes {
			for _, th := range p.Threads {
				if s, err := harness.ThreadState(p.PID, th.TID); err != nil || s != 'S' {
					return fmt.Errorf("thread %d is in state %c (%v)", th.VTID, s, err)
				}
			}
		}
		return nil
	})
}

// TestBusyTerminal: what a program writes to its terminal without pause is
// neither in the way of a dump nor lost.
func TestBusyTerminal(t *testing.T) {
	for _, user := range harness.Users() {
		t.Run("as "+user, func(t *testing.T) {
			e := harness.New(t, user)
			// No newline: a terminal would write two characters for it.
			c := e.Start("busy", nil, harness.Tool(t, "script"), "-qfc", "seq -s ' ' 1 3000000", "/dev/null")
			for n := range 4 {
				from := len(c.Log())
				harness.Eventually(t, "it writes", func() error {
					if len(c.Log()) == from {
						return errors.Join(errors.New("nothing yet"), c.Alive())
					}
					return nil
				})
				image := e.Join(fmt.Sprintf("image%d", n))
				c.Dump(image)
				e.Restore(image, "")
			}
			e.Run("wait", "busy")
			next := 1
			for _, word := range strings.Fields(c.Log()) {
				if word != fmt.Sprint(next) {
					t.Fatalf("%q follows %d", word, next-1)
				}
				next++
			}
			if next != 3000001 {
				t.Errorf("the last number is %d", next-1)
			}
		})
	}
}
