package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Launched is a process that was started without ckpt, with nothing as its
// standard input and a file as its output.
type Launched struct {
	Env *Env
	PID int
	out string
	cmd *exec.Cmd
}

// Launch starts command as a child of the test. It is killed when the test
// ends. With session it leads a session of its own, else it is in those of
// the test.
func (e *Env) Launch(session bool, command ...string) *Launched {
	e.T.Helper()
	e.launched++
	l := &Launched{Env: e, out: e.WriteFile(fmt.Sprintf("said%d", e.launched), "")}
	out, err := os.OpenFile(l.out, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		e.T.Fatal(err)
	}
	defer out.Close()
	// What the test was started with and never asked for, a pipe perhaps, is
	// not to be in the way of a dump.
	if err := unix.CloseRange(3, 1<<32-1, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		e.T.Fatal(err)
	}
	l.cmd = e.Command(context.Background(), command[0], command[1:]...)
	l.cmd.Stdout, l.cmd.Stderr = out, out
	if l.cmd.SysProcAttr == nil {
		l.cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	l.cmd.SysProcAttr.Setsid = session
	if err := l.cmd.Start(); err != nil {
		e.T.Fatal(err)
	}
	l.PID = l.cmd.Process.Pid
	e.T.Cleanup(func() {
		for _, pid := range Below(l.PID) {
			unix.Kill(pid, unix.SIGKILL)
		}
		l.cmd.Wait()
	})
	return l
}

// Below are a process and its descendants, none of these once it has ended.
func Below(pid int) []int {
	out := []int{pid}
	for i := 0; i < len(out); i++ {
		lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", out[i]))
		for _, l := range lists {
			b, _ := os.ReadFile(l)
			for f := range strings.FieldsSeq(string(b)) {
				if n, err := strconv.Atoi(f); err == nil {
					out = append(out, n)
				}
			}
		}
	}
	return out
}

// Log is what it, and what was restored from it, has written so far.
func (l *Launched) Log() string {
	l.Env.T.Helper()
	b, err := os.ReadFile(l.out)
	if err != nil {
		l.Env.T.Fatal(err)
	}
	return string(b)
}

// Output is the file that Log reads.
func (l *Launched) Output() string { return l.out }

// Kill sends it a signal ("USR1").
func (l *Launched) Kill(signal string) {
	l.Env.T.Helper()
	if err := l.cmd.Process.Signal(unix.SignalNum("SIG" + signal)); err != nil {
		l.Env.T.Fatal(err)
	}
}

// Alive is nil while it runs, else Final.
func (l *Launched) Alive() error {
	state, err := ThreadState(l.PID, l.PID)
	if err != nil || state == 'Z' {
		return Final{Err: fmt.Errorf("host pid %d has ended; it said: %s", l.PID, l.Log())}
	}
	return nil
}

// Wait waits for its end, and tells how that was.
func (l *Launched) Wait() syscall.WaitStatus {
	l.Env.T.Helper()
	err := l.cmd.Wait()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		l.Env.T.Fatal(err)
	}
	return l.cmd.ProcessState.Sys().(syscall.WaitStatus)
}

// Dump saves it and all below it in dir, and tells by which name ckpt calls it.
func (l *Launched) Dump(dir string, flags ...string) (name string) {
	l.Env.T.Helper()
	var said struct {
		Name string `json:"name"`
	}
	l.Env.JSON(&said, append([]string{"dump", "--pid", strconv.Itoa(l.PID), dir}, flags...)...)
	return said.Name
}

// Adopt dumps it and restores it into a container of that name.
func (l *Launched) Adopt(dir, name string) *Container {
	l.Env.T.Helper()
	l.Dump(dir)
	return l.Env.Restore(dir, name)
}
