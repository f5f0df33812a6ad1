package console

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// GuardCommand is the word by which ckpt knows that it was executed to be a guard.
const GuardCommand = "guard-terminal"

// guard is a process that gives the terminal back should the one that is attached be
// killed (SIGKILL). It is in a session of its own: neither a signal to the group of
// the other nor the end of the session reaches it.
type guard struct {
	cmd  *exec.Cmd
	pipe io.WriteCloser
}

// attributes are the terminal's before and while somebody is attached.
type attributes struct{ Before, While unix.Termios }

// startGuard is called before anything is changed.
func startGuard(tty *os.File) (*guard, error) {
	g := &guard{cmd: exec.Command("/proc/self/exe", GuardCommand)}
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	g.cmd.Stdout = tty
	var err error
	if g.pipe, err = g.cmd.StdinPipe(); err == nil {
		err = g.cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("start the guard of the terminal: %w", err)
	}
	return g, nil
}

// tell is called before the terminal is changed.
func (g *guard) tell(a attributes) error {
	if err := json.NewEncoder(g.pipe).Encode(a); err != nil {
		return fmt.Errorf("tell the guard of the terminal: %w", err)
	}
	return nil
}

// dismiss is called when the terminal is as it was.
func (g *guard) dismiss() {
	_ = json.NewEncoder(g.pipe).Encode("done")
	_ = g.pipe.Close()
	_ = g.cmd.Wait()
}

// Guard is the life of a guard. It reads what it is told from in, and gives tty back
// when that ends before it was told to go.
func Guard(in io.Reader, tty *os.File) error {
	d := json.NewDecoder(in)
	var a attributes
	if err := d.Decode(&a); err != nil {
		return nil // nothing has been changed
	}
	var done string
	if d.Decode(&done) == nil {
		return nil
	}
	_, err := io.WriteString(tty, Clean+forget+bottom)
	if err != nil {
		return fmt.Errorf("give back the terminal: %w", err)
	}
	// A shell that has noticed has its own by now.
	is, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err == nil && *is == a.While {
		err = unix.IoctlSetTermios(int(tty.Fd()), unix.TCSETS, &a.Before)
	}
	if err != nil {
		return fmt.Errorf("give back the terminal: %w", err)
	}
	return nil
}
