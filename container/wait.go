package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kernel"
)

// Wait waits until the container has ended, as it does when its command has,
// and tells how that did. Its name is free then. A container that a dump ended
// is an error, and so is one that was restored since, and one whose supervisor was killed before it could learn
// the status.
func (c *Container) Wait(ctx context.Context) (_ *Exit, err error) {
	defer func() {
		if _, gone := os.Lstat(c.dir); err != nil && errors.Is(gone, os.ErrNotExist) {
			err = c.removed()
		}
	}()
	w, err := watchDir(c.dir)
	if err != nil {
		return nil, err
	}
	defer w.Close()
	var ends []int
	for _, p := range []int{c.Init, c.Supervisor} {
		if p <= 0 {
			continue
		}
		fd, err := unix.PidfdOpen(p, 0)
		if errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("wait for %s: open host pid %d: %w", c.Name, p, err)
		}
		defer unix.Close(fd)
		ends = append(ends, fd)
	}
	for {
		// The watch stands already: what changes from here on wakes us.
		if err := c.Reload(); err != nil {
			return nil, err
		}
		alive, err := c.alive()
		if err != nil {
			return nil, err
		}
		if !alive {
			return c.ended(ctx)
		}
		if err := waitReadable(ctx, append([]int{w.fd}, ends...)...); err != nil {
			return nil, err
		}
		if err := w.drain(); err != nil {
			return nil, err
		}
		ends = stillOpen(ends)
	}
}

// ended reads how a container ended whose processes are gone.
func (c *Container) ended(ctx context.Context) (*Exit, error) {
	if err := c.settle(ctx); err != nil {
		return nil, &failure.Error{Doing: "wait for " + c.Name, Err: err}
	}
	if err := c.Reload(); err != nil {
		return nil, err
	}
	if c.Exit != nil {
		return c.Exit, nil
	}
	if m := c.Marker(); m != nil {
		return nil, failure.WithHint(fmt.Errorf("%s was %s", c.Name, m.Dumped()), m.hint())
	}
	return nil, fmt.Errorf("%s has ended, and nobody knows how: its supervisor was killed before", c.Name)
}

// stillOpen leaves out the pidfds of processes that have ended, so that they
// do not wake the waiter for ever.
func stillOpen(fds []int) []int {
	var out []int
	for _, fd := range fds {
		if is, err := kernel.Poll(uintptr(fd), unix.POLLIN); err == nil && is == 0 {
			out = append(out, fd)
		}
	}
	return out
}

// watcher becomes readable when what it watches changes (inotify(7)).
type watcher struct{ fd int }

func watch(path string, events uint32) (*watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, failure.WithHint(fmt.Errorf("watch %s: %w", path, err), "the limit fs.inotify.max_user_instances may be too low")
	}
	if _, err := unix.InotifyAddWatch(fd, path, events); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("watch %s: %w", path, err)
	}
	return &watcher{fd}, nil
}

// watchDir reports files renamed into dir, and its end.
func watchDir(dir string) (*watcher, error) {
	return watch(dir, unix.IN_MOVED_TO|unix.IN_DELETE_SELF|unix.IN_ONLYDIR)
}

func (w *watcher) Close() error { return unix.Close(w.fd) }

// drain throws the events away: what changed is looked up afterwards.
func (w *watcher) drain() error {
	var b [4096]byte
	for {
		n, err := unix.Read(w.fd, b[:])
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN, err == nil && n <= 0:
			return nil
		case err != nil:
			return fmt.Errorf("read inotify: %w", err)
		}
	}
}

// waitReadable waits until one of fds is readable, or until ctx ends, which
// is failure.ErrInterrupted.
func waitReadable(ctx context.Context, fds ...int) error {
	_, err := waitReadableOr(ctx, -1, fds...)
	return err
}

// waitReadableOr waits also until nobody reads any more what is written into the pipe or
// socket out; -1: there is none.
func waitReadableOr(ctx context.Context, out int, fds ...int) (gone bool, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return false, err
	}
	defer r.Close()
	stop := context.AfterFunc(ctx, func() { w.Close() })
	defer func() {
		if stop() {
			w.Close()
		}
	}()
	ps := []unix.PollFd{{Fd: int32(r.Fd()), Events: unix.POLLIN}, {Fd: int32(out)}}
	for _, fd := range fds {
		ps = append(ps, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	for {
		_, err := unix.Poll(ps, -1)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return false, err
		}
		if ps[0].Revents != 0 {
			return false, failure.Mark(failure.ErrInterrupted, errors.New("interrupted"))
		}
		return ps[1].Revents&unix.POLLERR != 0, nil
	}
}

// Follow copies the container's log to w; with follow, until the container
// has ended, ctx ends, or nobody reads w any more.
func (c *Container) Follow(ctx context.Context, w io.Writer, follow bool) error {
	if follow {
		return c.FollowFrom(ctx, w, 0)
	}
	f, err := c.openLog(0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// openLog opens the log where it is to be read from, in bytes.
func (c *Container) openLog(from int64) (*os.File, error) {
	f, err := os.Open(c.Log())
	if err == nil {
		if _, err = f.Seek(from, io.SeekStart); err != nil {
			f.Close()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read the log of %s: %w", c.Name, err)
	}
	return f, nil
}

// FollowFrom copies the log from that byte on, until the container has ended or ctx
// ends.
func (c *Container) FollowFrom(ctx context.Context, w io.Writer, from int64) error {
	f, err := c.openLog(from)
	if err != nil {
		return err
	}
	defer f.Close()
	in, err := watch(c.Log(), unix.IN_MODIFY)
	if err != nil {
		return err
	}
	defer in.Close()
	end, err := c.initFD()
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	defer end.Close()
	out := -1
	if f, ok := w.(*os.File); ok {
		out = int(f.Fd())
	}
	for ended := end == nil; ; {
		if _, err := io.Copy(w, f); err != nil {
			return err
		}
		// Its death was seen before this copy: nothing can follow.
		if ended {
			return nil
		}
		gone, err := waitReadableOr(ctx, out, in.fd, int(end.Fd()))
		if gone || err != nil {
			return err
		}
		if err := in.drain(); err != nil {
			return err
		}
		ended = len(stillOpen([]int{int(end.Fd())})) == 0
	}
}

// WaitEnd waits until every process of the container is gone and its
// supervisor has ended: then its name is free.
func (c *Container) WaitEnd(ctx context.Context) error {
	fd, err := c.initFD()
	if err == nil {
		defer fd.Close()
		err = waitReadable(ctx, int(fd.Fd()))
	}
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return c.settle(ctx)
}
