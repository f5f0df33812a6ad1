package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/pidns"
	"ckpt/procfs"
)

// Kill sends sig to the container's command. The command is found by its
// virtual pid, and held by a pidfd before it is looked at again, so that the
// signal never reaches another process.
func (c *Container) Kill(sig unix.Signal) error {
	fail := func(err error) error {
		return &failure.Error{Doing: fmt.Sprintf("send %s to %s", signalText(sig), c.Name), Err: err}
	}
	if err := c.MustLive(); err != nil {
		return err
	}
	ps, err := c.walk(false)
	if err != nil {
		return fail(err)
	}
	for _, p := range ps {
		if p.VPID != pidns.VPID(c.MainVPID) {
			continue
		}
		fd, err := openSame(int(p.PID), p.start)
		if err != nil {
			return fail(err)
		}
		defer fd.Close()
		if err := unix.PidfdSendSignal(int(fd.Fd()), sig, nil, 0); err != nil {
			return fail(err)
		}
		return nil
	}
	return failure.WithHint(fail(fmt.Errorf("its command has ended; %d processes are left", len(ps))),
		"end them all: ckpt rm -f "+c.Name)
}

// signalText is a signal's name, or its number: real-time signals have no name
// that stands for one number everywhere (signal(7)).
func signalText(sig unix.Signal) string {
	if name := unix.SignalName(sig); name != "" {
		return name
	}
	return fmt.Sprintf("signal %d", int(sig))
}

// openSame gives a pidfd of a process if it is still the one that started then.
func openSame(pid int, start uint64) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("open host pid %d: %w", pid, err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	p, err := procfs.Open(pid)
	if err == nil {
		defer p.Close()
		var st *procfs.Stat
		if st, err = p.Stat(); err == nil && st.StartTime != start {
			err = unix.ESRCH
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("host pid %d: %w", pid, err)
	}
	return f, nil
}

// MustLive is an error for a container that is not alive.
func (c *Container) MustLive() error {
	st, err := c.State()
	if err != nil {
		return err
	}
	switch {
	case st.Alive():
		return nil
	case st == Damaged:
		return c.damage
	case st == Dumped:
		err := fmt.Errorf("%s is dumped, not running", c.Name)
		if m := c.Marker(); m != nil { // else it was restored or removed this instant
			err = failure.WithHint(err, m.hint())
		}
		return err
	}
	return failure.WithHint(fmt.Errorf("%s has ended", c.Name), "`ckpt logs "+c.Name+"` shows what it wrote")
}

// Remove forgets the container. One that is alive is killed first if force
// says so, and is an error otherwise.
func (c *Container) Remove(ctx context.Context, force bool) error {
	alive, err := c.alive()
	if err != nil {
		return err
	}
	if c.damage != nil && !force {
		return c.damage
	}
	if c.damage != nil && !alive {
		if err := c.noneLeft(); err != nil {
			return &failure.Error{Doing: "remove " + c.Name, Err: err}
		}
	}
	if alive && !force {
		return failure.WithHint(fmt.Errorf("%s is running", c.Name), "kill it and forget it: ckpt rm -f "+c.Name)
	}
	if alive {
		// The processes of a dump are traced; see untilMade.
		lock, err := c.notDumping()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // another command has removed it
		}
		if err != nil {
			return &failure.Error{Doing: "remove " + c.Name, Err: err}
		}
		defer lock.Close()
		if err := c.killAll(ctx); err != nil {
			return &failure.Error{Doing: "remove " + c.Name, Err: err}
		}
	}
	if err := c.settle(ctx); err != nil {
		return &failure.Error{Doing: "remove " + c.Name, Err: err}
	}
	return c.store.locked(func() error {
		// Another command may have used the name meanwhile.
		now, err := c.store.read(c.Name)
		if err != nil || now == nil {
			return err
		}
		if alive, err := now.alive(); err != nil || alive {
			return errors.Join(err, taken(c.Name, "was started meanwhile"))
		}
		return errors.Join(c.removeNames(), c.liftTables(), c.forgetInside(), c.forget())
	})
}

// forget removes the directory of c. For others, who lock files in it and make them for
// that, it is gone at one stroke. Preconditions: Store.locked.
func (c *Container) forget() error {
	gone := filepath.Join(c.store.dir, ".gone-"+filepath.Base(c.dir))
	if err := os.RemoveAll(gone); err != nil { // of one that was killed over it
		return err
	}
	err := os.Rename(c.dir, gone)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for range 10 {
		// Who had found the directory before may still make a file in it.
		if err = os.RemoveAll(gone); !errors.Is(err, unix.ENOTEMPTY) {
			break
		}
	}
	return err
}

// forgetInside removes what ckpt inside has remembered in the same state
// directory, unless it is still needed: by an image, or a copy of the container.
func (c *Container) forgetInside() error {
	if c.Marker() != nil || !IsKey(c.Key) || len(c.images()) > 0 {
		return nil
	}
	all, err := c.store.List()
	if err != nil {
		return err
	}
	for _, o := range all {
		if o.Name != c.Name && (o.Key == c.Key || o.damage != nil) {
			return nil
		}
	}
	return os.RemoveAll(insideDir(c.store.dir, c.Key))
}

// killAll kills vpid 1 and with it, by pid_namespaces(7), every process of
// the container, and waits until they are gone: vpid 1 becomes a zombie only
// after all others have been reaped (zap_pid_ns_processes()).
func (c *Container) killAll(ctx context.Context) error {
	fd, err := c.initFD()
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer fd.Close()
	if err := unix.PidfdSendSignal(int(fd.Fd()), unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, killPatience)
	defer cancel()
	if err = waitReadable(limited, int(fd.Fd())); err != nil && ctx.Err() == nil {
		err = failure.WithHint(fmt.Errorf("it was killed, and has not ended after %v", killPatience),
			"another program traces a process of it (strace, gdb): end that", "a process of it waits for a device, or has much memory to give back: wait, and ckpt rm "+c.Name)
	}
	return err
}

// killPatience is for the end of all processes, whose memory is given back
// first. Some never end: those of a pid namespace made inside whose first
// process holds an id there itself (see restore/tree).
const killPatience = 30 * time.Second

// DumpLock keeps a second dump of the same container out until it is closed,
// and processes of `ckpt exec` that are being made.
func (c *Container) DumpLock() (*os.File, error) {
	f, err := lockFor(c.file(dumpLock), unix.F_OFD_SETLK, unix.F_WRLCK)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		if f, err = c.waitForExecs(); err == nil && f == nil {
			return nil, beingDumped(c.Name)
		}
	}
	if err != nil {
		return nil, err
	}
	// What was left by a dump that was killed at the end.
	if err := errors.Join(c.liftTables(), remove(c.file(markerFile))); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// waitForExecs waits for the lock unless another dump has it: then it gives nil.
func (c *Container) waitForExecs() (*os.File, error) {
	if dumping, err := lockedForWriting(c.file(dumpLock)); dumping || err != nil {
		return nil, err
	}
	return lockFor(c.file(dumpLock), unix.F_OFD_SETLKW, unix.F_WRLCK)
}

// notDumping keeps dumps out until it is closed.
func (c *Container) notDumping() (*os.File, error) {
	f, err := lockFor(c.file(dumpLock), unix.F_OFD_SETLK, unix.F_RDLCK)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return nil, beingDumped(c.Name)
	}
	return f, err
}

func beingDumped(name string) error {
	return failure.WithHint(fmt.Errorf("%s is being dumped", name), "wait until the dump has ended, or interrupt it")
}

func (c *Container) clearExecs() {
	names, _ := filepath.Glob(c.file(execPrefix + "*"))
	for _, n := range names {
		os.Remove(n)
	}
}
