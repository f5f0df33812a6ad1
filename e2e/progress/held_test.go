package progress

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"ckpt/e2e/harness"
)

// TestTerminalTakesNothing: ctrl-S stops what is shown, and not the work.
func TestTerminalTakesNothing(t *testing.T) {
	as(t, func(t *testing.T, e *harness.Env, c *harness.Container) {
		m := newTerminal(t, 80)
		m.types("\x13")
		d := dumping(t, e)
		m.start(d.Cmd)
		harness.Eventually(t, "it is about to show something", func() error { return waitsIn(d.Process.Pid, syscall.SYS_WRITE, 2) })
		drained := make(chan struct{})
		go func() {
			defer close(drained)
			d.drain(t) // ends with ckpt
		}()
		harness.Eventually(t, "the container is saved, and has ended", func() error {
			if s := c.Ps().State; s != "dumped" {
				return fmt.Errorf("it is %s", s)
			}
			return nil
		})
		if shown := m.all(); shown != "" {
			t.Errorf("the terminal shows %q", shown)
		}
		m.types("\x11")
		<-drained
		m.ends(d.Cmd, 0, `big: written \(8\.\d MB, frozen .*\)`)
		e.Run("rm", "-f", "big")
		e.Start("big", nil, harness.Program(t, "big.c"), "8")
	})
}

// waitsIn is nil if a thread of a process is in a call on a descriptor.
func waitsIn(pid int, nr, fd int) error {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", pid))
	if err != nil {
		return harness.Final{Err: err}
	}
	var all []byte
	for _, task := range tasks {
		b, err := os.ReadFile(task)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue
		}
		if err != nil {
			return harness.Final{Err: err}
		}
		if strings.HasPrefix(string(b), fmt.Sprintf("%d 0x%x ", nr, fd)) {
			return nil
		}
		all = append(all, b...)
	}
	return fmt.Errorf("its threads are in these calls:\n%s", bytes.TrimSpace(all))
}

// halfASecond comes back when so much time has passed that what began before would be
// shown: a command that began later shows it.
func halfASecond(t *testing.T, e *harness.Env) {
	t.Helper()
	later := e.Command(t.Context(), harness.Ckpt(), "restore", "-", "--progress", "json")
	stream, err := later.StdinPipe() // in which nothing comes
	if err != nil {
		t.Fatal(err)
	}
	errs, err := later.StderrPipe()
	if err == nil {
		err = later.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(errs)
	next(t, in)
	stream.Close()
	rest(t, in)
	if err := later.Wait(); later.ProcessState.ExitCode() != 4 {
		t.Errorf("restore of an empty stream: %v", err)
	}
}

// TestBackground: what runs in the background is not stopped for what it would show
// (stty tostop), and shows nothing.
func TestBackground(t *testing.T) {
	as(t, func(t *testing.T, e *harness.Env, _ *harness.Container) {
		e.Run("dump", "big", "image")
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		m := newTerminal(t, 80)
		cmd := e.Command(t.Context(), "bash", "-c", `stty tostop; set -m; "$0" restore - <&3 >out & echo $! >pid; wait`, harness.Ckpt())
		cmd.ExtraFiles = []*os.File{r}
		m.start(cmd)
		r.Close()
		harness.Eventually(t, "the restore reads", func() error {
			b, err := os.ReadFile(e.Join("pid"))
			pid, perr := strconv.Atoi(strings.TrimSpace(string(b)))
			return cmp.Or(err, perr, waitsIn(pid, syscall.SYS_READ, 0))
		})
		halfASecond(t, e)
		tar := e.Command(t.Context(), "tar", "-c", "-C", e.Join("image"), ".")
		tar.Stdout = w
		if err := tar.Run(); err != nil {
			t.Fatal(err)
		}
		w.Close()
		harness.Eventually(t, "it is restored", func() error {
			if b, err := os.ReadFile(e.Join("out")); err != nil || !strings.HasPrefix(string(b), "big: restored in ") {
				return fmt.Errorf("it says %q (%v), and the terminal shows %q", b, err, m.all())
			}
			return nil
		})
		m.ends(cmd, 0, `\[1\]\+  Done .*`) // says bash
	})
}

// TestNotShown: nothing is where there is no terminal, where that cannot take a line
// back, and where the user does not want it.
func TestNotShown(t *testing.T) {
	as(t, func(t *testing.T, e *harness.Env, _ *harness.Container) {
		for _, tt := range []struct {
			name     string
			terminal bool
			term     string
			flags    []string
		}{
			{"no terminal", false, "xterm", nil},
			{"TERM=dumb", true, "dumb", nil},
			{"no TERM", true, "", nil},
			{"--quiet", true, "xterm", []string{"--quiet"}},
			{"--progress none", true, "xterm", []string{"--progress", "none"}},
			{"--log-format json", true, "xterm", []string{"--log-format", "json"}},
		} {
			t.Run(tt.name, func(t *testing.T) {
				d := dumping(t, e, append(tt.flags, "--leave-running")...)
				var errs bytes.Buffer
				m := newTerminal(t, 80)
				if tt.terminal {
					m.term = tt.term
					m.start(d.Cmd)
				} else {
					d.Stderr = &errs
					d.Env = append(d.Env, "TERM="+tt.term)
					if err := d.Start(); err != nil {
						t.Fatal(err)
					}
				}
				first := make([]byte, 512)
				if _, err := d.end.Read(first); err != nil { // it is at work, and waits for more to be read
					t.Fatal(err)
				}
				halfASecond(t, e)
				d.drain(t)
				want := `big: written \(8\.\d MB, frozen .*\)`
				if len(tt.flags) > 0 && tt.flags[0] == "--quiet" {
					want = ""
				}
				if tt.terminal {
					m.ends(d.Cmd, 0, want)
				} else if err := d.Wait(); err != nil {
					t.Error(err)
				}
				if all := m.all() + errs.String(); strings.Contains(all, "B/s") || strings.Contains(all, "\x1b") {
					t.Errorf("it shows %q", all)
				}
			})
		}
	})
}
