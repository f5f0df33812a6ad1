package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"ckpt/container"
)

// A container that is saved by itself has a saver: a process of ckpt, beside its
// supervisor, that starts or restores it and stays. It is the user's, outside of the
// container's user namespace, as who types `ckpt dump` is. Unless it is to stay in the
// foreground, it is a child of the command that the user typed, which ends when the
// container runs, and without which it gives up before that.

// detachedFlag tells ckpt to be that child: of a restore, its value is the image. It
// stands before the command, and the rest of the command line is the user's.
const detachedFlag = "detached"

func (o *globalOptions) addDetached(f *pflag.FlagSet) {
	f.StringVar(&o.detached, detachedFlag, "", "")
	_ = f.MarkHidden(detachedFlag)
}

// detachedFD is the child's end of a pair of sockets: it writes a byte when the
// container runs, and reads the end of the command.
const detachedFD = 3

// detach runs the command line again as a child in a session of its own, until the
// container runs; in is its standard input, and of what it is told that it does.
func (a *app) detach(ctx context.Context, of string, in *os.File) error {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socketpair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "saver"), os.NewFile(uintptr(fds[1]), "command")
	defer ours.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = append([]string{"ckpt", "--" + detachedFlag + "=" + of}, a.args...)
	cmd.Stdout, cmd.Stderr = a.out, a.err
	if in != nil {
		cmd.Stdin = in
	}
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return fmt.Errorf("start a process that saves the container: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = unix.Shutdown(fds[0], unix.SHUT_WR) })
	defer stop()
	if n, _ := ours.Read(make([]byte, 1)); n == 1 {
		return cmd.Process.Release()
	}
	err = cmd.Wait()
	if e, ok := errors.AsType[*exec.ExitError](err); ok && e.ExitCode() > 0 {
		return programStatus(e.ExitCode()) // it has told why
	}
	return fmt.Errorf("the process that saves the container has ended: %w", errors.Join(err, errors.New("it gave no answer")))
}

// parent is the command whose detached child this is; nil: it is none's.
type parent struct{ pair *os.File }

func (a *app) parent() *parent {
	if a.global.detached == "" {
		return nil
	}
	unix.CloseOnExec(detachedFD)
	return &parent{os.NewFile(detachedFD, "command")}
}

// until gives a context that ends with the command, too.
func (p *parent) until(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	if p != nil {
		go func() {
			_, _ = p.pair.Read(make([]byte, 1)) // nothing but its end
			cancel()
		}()
	}
	return ctx, cancel
}

// leave lets the command end, and drops what this process has of it.
func (p *parent) leave() error {
	if p == nil {
		return nil
	}
	err := container.LetGo()
	if err == nil {
		_, err = p.pair.Write([]byte{1})
		if errors.Is(err, unix.EPIPE) {
			err = nil // it was killed; the container runs
		}
	}
	return err
}
