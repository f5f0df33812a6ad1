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
)

// Locks are those of open file descriptions (F_OFD_SETLK of fcntl(2)): they
// end with the last duplicate of the descriptor, also when its holder is
// killed; and F_OFD_GETLK asks who holds one without taking it, so that a
// question never makes another command believe a name is taken.

// lockFor opens path, makes it if need be, and locks it: how is F_WRLCK or
// F_RDLCK, cmd F_OFD_SETLK (EAGAIN where another holds it) or F_OFD_SETLKW.
func lockFor(path string, cmd int, how int16) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.FcntlFlock(f.Fd(), cmd, &unix.Flock_t{Type: how})
		if err == nil {
			return f, nil
		}
		if err != unix.EINTR {
			f.Close()
			return nil, &fs.PathError{Op: "lock", Path: path, Err: err}
		}
	}
}

// lockedForWriting tells whether somebody holds the lock of path alone.
func lockedForWriting(path string) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	// A read lock would be refused by a write lock only.
	l := unix.Flock_t{Type: unix.F_RDLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &l); err != nil {
		return false, &fs.PathError{Op: "ask for the lock of", Path: path, Err: err}
	}
	return l.Type == unix.F_WRLCK, nil
}

// locked runs fn while no other command makes or forgets an entry.
func (s *Store) locked(fn func() error) error {
	f, err := lockFor(filepath.Join(s.dir, ".lock"), unix.F_OFD_SETLKW, unix.F_WRLCK)
	if err != nil {
		return err
	}
	defer f.Close()
	return fn()
}

// Supervised tells whether the container's supervisor lives.
func (c *Container) Supervised() (bool, error) { return lockedForWriting(c.file(lockFile)) }

// settle waits until the supervisor of a container that has ended has written
// all it knows, and has ended, too. That one was stopped by a signal is no
// reason to wait: it is told to go on.
func (c *Container) settle(ctx context.Context) error {
	if up, err := c.Supervised(); err != nil || !up {
		return err
	}
	if err := c.wake(); err != nil {
		return err
	}
	err := c.waitLock(ctx, lockFile)
	if errors.Is(err, errLocked) {
		err = failure.WithHint(fmt.Errorf("its supervisor, host pid %d, has not ended after %v", c.Supervisor, lockPatience),
			fmt.Sprintf("look at it (ps -o stat,wchan -p %d): a debugger, or the freezer of a cgroup, may keep it", c.Supervisor))
	}
	return err
}

// wake sends SIGCONT to the supervisor.
func (c *Container) wake() error {
	fd, err := unix.PidfdOpen(c.Supervisor, 0)
	if err != nil { // it has ended this instant, or nobody knows it
		return nil
	}
	defer unix.Close(fd)
	if is, err := c.isSupervisor(c.Supervisor); err != nil || !is {
		return err
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGCONT, nil, 0); err != nil && err != unix.ESRCH {
		return fmt.Errorf("let its supervisor, host pid %d, go on: %w", c.Supervisor, err)
	}
	return nil
}

// untilMade waits until the container runs that has just been recorded. To
// kill it before, while the supervisor traces it, would make the two wait for
// each other: vpid 1 does not end before all zombies below it have been
// reaped, and those the tracer has to reap.
func (c *Container) untilMade() error {
	err := c.waitLock(context.Background(), makingFile)
	if errors.Is(err, errLocked) {
		err = failure.WithHint(fmt.Errorf("%s is being started, and has not come to run after %v", c.Name, lockPatience),
			fmt.Sprintf("if its supervisor was stopped: kill -CONT %d", c.Supervisor))
	}
	return err
}

// lockPatience is for what takes milliseconds.
const lockPatience = 30 * time.Second

var errLocked = errors.New("locked by another process")

// waitLock waits until nobody has the lock alone; errLocked: for too long.
func (c *Container) waitLock(ctx context.Context, name string) error {
	got := make(chan error, 1)
	go func() { // waits in fcntl(2) until it gets it, or ckpt ends
		f, err := lockFor(c.file(name), unix.F_OFD_SETLKW, unix.F_RDLCK)
		switch {
		case err == nil:
			err = f.Close()
		case errors.Is(err, fs.ErrNotExist): // forgotten meanwhile
			err = nil
		}
		got <- err
	}()
	select {
	case err := <-got:
		return err
	case <-ctx.Done():
		return failure.Mark(failure.ErrInterrupted, errors.New("interrupted"))
	case <-time.After(lockPatience):
		return errLocked
	}
}
