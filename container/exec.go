package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/tracee"
)

// ExecRequest is one more process for a container.
type ExecRequest struct {
	Path    string // of the program, see LookPath
	Command []string
	Env     []string
	Dir     string      // its working directory, if there is one of that name inside; else "/"
	Stdio   [3]*os.File // its descriptors 0, 1 and 2
}

// Exec runs a process in the container as a child of its vpid 1, and waits
// for its end. When ctx ends the process is interrupted, and killed if that
// is not enough. That a dump has ended it is ErrSaved.
//
// Nothing is done to any process of the container: a bare child of ckpt joins
// the namespaces; a helper it forks there forks the new process and exits, so
// that the new one becomes a child of vpid 1. All three die if ckpt is killed
// before the program was executed.
func (c *Container) Exec(ctx context.Context, req ExecRequest) (*Exit, error) {
	if err := c.MustLive(); err != nil {
		return nil, err
	}
	w, err := watchDir(c.dir)
	if err != nil {
		return nil, err
	}
	defer w.Close()
	var p *execed
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // traces, and changes nothing that outlives the thread
		p, err = c.launchExec(req)
	}()
	<-done
	if err != nil {
		return nil, &failure.Error{Doing: "exec in " + c.Name, Err: err}
	}
	defer p.pidfd.Close()
	defer os.Remove(p.status)
	return c.waitExec(ctx, w, p)
}

// execed is a process that runs.
type execed struct {
	status string // file that tells how it ended
	pidfd  *os.File
}

func (c *Container) launchExec(req ExecRequest) (_ *execed, err error) {
	// A dump must not meet a process that is half made.
	lock, err := c.notDumping()
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	nss, err := c.namespaces()
	if err != nil {
		return nil, err
	}
	files := append(append([]*os.File(nil), nss.files...), req.Stdio[:]...)
	outer, site, err := tracee.StartStub(tracee.StubOptions{Files: files})
	nss.close()
	if err != nil {
		return nil, err
	}
	// Each below the other. The death of one kills none.
	stubs := []*tracee.Thread{outer}
	defer func() { err = errors.Join(err, endStubs(stubs, site)) }()
	if err := nss.join(outer, site); err != nil {
		return nil, err
	}
	for range 2 {
		t, err := tracee.ForkStub(stubs[len(stubs)-1], site, tracee.ForkOptions{ExitSignal: unix.SIGCHLD})
		if err != nil {
			return nil, err
		}
		stubs = append(stubs, t)
	}
	helper, t := stubs[1], stubs[2]
	if err := c.become(t, site, req, len(nss.files)); err != nil {
		return nil, err
	}
	if err := tracee.ExitStub(helper, site, 0); err != nil { // t becomes vpid 1's
		return nil, err
	}
	stubs = []*tracee.Thread{outer}
	p, err := (*execed)(nil), waitBelow(outer, site)
	if err == nil {
		p, err = c.letRun(t)
	}
	if err != nil {
		err = errors.Join(err, t.Kill())
	}
	return p, err
}

// endStubs ends stubs of which each is the parent of the next, the last first,
// and lets each wait for the one below: it would be a zombie in the container
// otherwise, until the init there, or the host's, sees it.
func endStubs(stubs []*tracee.Thread, site tracee.Site) error {
	var errs error
	for i, t := range slices.Backward(stubs) {
		errs = errors.Join(errs, t.Kill())
		if i == 0 {
			break
		}
		if err := waitBelow(stubs[i-1], site); !errors.Is(err, tracee.ErrGone) {
			errs = errors.Join(errs, err)
		}
	}
	return errs
}

// waitBelow lets a stub wait for its child, which has ended.
func waitBelow(stub *tracee.Thread, site tracee.Site) error {
	if _, err := stub.Syscall(site, unix.SYS_WAIT4, 1<<64-1, 0, unix.WALL, 0); err != nil {
		return fmt.Errorf("wait for the helper: %w", err)
	}
	return nil
}

// become makes t the program of req; its descriptors are behind skip others.
func (c *Container) become(t *tracee.Thread, site tracee.Site, req ExecRequest, skip int) error {
	s := tracee.NewScript(site.Base)
	s.Must(unix.SYS_SETSID)
	for fd := range 3 {
		s.Must(unix.SYS_DUP3, uint64(3+skip+fd), uint64(fd), 0)
	}
	s.Must(unix.SYS_CLOSE_RANGE, 3, 1<<32-1, 0)
	s.Must(unix.SYS_CHDIR, s.Str("/"))
	s.Try(unix.SYS_CHDIR, s.Str(req.Dir))
	if err := t.Run(site, s); err != nil {
		return fmt.Errorf("prepare the process: %w", err)
	}
	return execve(t, site, req.Path, req.Command, req.Env)
}

// letRun lets t go, and has the supervisor note how it ends.
func (c *Container) letRun(t *tracee.Thread) (*execed, error) {
	fd, err := unix.PidfdOpen(t.PID, 0)
	if err != nil {
		return nil, fmt.Errorf("open a pidfd of the process: %w", err)
	}
	p := &execed{status: c.file(execPrefix + strconv.Itoa(t.VPID)), pidfd: os.NewFile(uintptr(fd), "pidfd")}
	if err := os.WriteFile(p.status, nil, 0o600); err != nil {
		p.pidfd.Close()
		return nil, err
	}
	if err := errors.Join(t.SetSigMask(0), t.Detach(0)); err != nil {
		p.pidfd.Close()
		return nil, errors.Join(err, os.Remove(p.status))
	}
	return p, nil
}

// interruptGrace is how long an interrupted process has to end by itself.
const interruptGrace = 2 * time.Second

func (c *Container) waitExec(ctx context.Context, w *watcher, p *execed) (*Exit, error) {
	var super []int
	if fd, err := unix.PidfdOpen(c.Supervisor, 0); err == nil {
		defer unix.Close(fd)
		super = append(super, fd)
	}
	for sig := unix.SIGINT; ; {
		err := waitReadable(ctx, append([]int{w.fd, int(p.pidfd.Fd())}, super...)...)
		if errors.Is(err, failure.ErrInterrupted) {
			if err := unix.PidfdSendSignal(int(p.pidfd.Fd()), sig, nil, 0); err != nil && err != unix.ESRCH {
				return nil, err
			}
			sig = unix.SIGKILL
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), interruptGrace)
			defer cancel()
			continue
		}
		if err != nil {
			return nil, err
		}
		// Before the look: an event of what is written after it must stay.
		if err := w.drain(); err != nil {
			return nil, err
		}
		e := new(Exit)
		if b, err := os.Stat(p.status); err == nil && b.Size() > 0 {
			_, err := readJSON(p.status, e)
			return e, err
		}
		super = stillOpen(super)
		ended := len(stillOpen([]int{int(p.pidfd.Fd())})) == 0
		if ended && len(super) == 0 {
			return c.execLost(p)
		}
		if ended { // wait for the supervisor alone: the pidfd stays readable
			if err := waitReadable(ctx, append([]int{w.fd}, super...)...); err != nil {
				return nil, err
			}
		}
	}
}

// execLost: the supervisor is gone; it may have told before it went.
func (c *Container) execLost(p *execed) (*Exit, error) {
	e := new(Exit)
	if b, err := os.Stat(p.status); err == nil && b.Size() > 0 {
		_, err := readJSON(p.status, e)
		return e, err
	}
	if alive, err := c.alive(); err != nil || !alive {
		return nil, errors.Join(err, c.execEnded())
	}
	return nil, fmt.Errorf("the process has ended, and nobody knows how: the supervisor of %s was killed before", c.Name)
}

// execEnded tells why a process of a container that has ended is no more.
func (c *Container) execEnded() error {
	if err := c.Reload(); errors.Is(err, ErrSaved) {
		return err
	}
	if m := c.Marker(); m != nil {
		return failure.WithHint(failure.Mark(ErrSaved, fmt.Errorf("%s was %s, and with it the process", c.Name, m.Dumped())), m.hint())
	}
	return fmt.Errorf("%s ended, and with it the process", c.Name)
}
