package unixsock

import (
	"errors"
	"fmt"
	"path"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kernel"
	"ckpt/kind"
)

// bind gives s its name back, in the place where others look for it.
func (w *world) bind(s *sock) error {
	switch {
	case !s.named():
		return nil
	case s.abstract():
		return bindAbstract(s)
	case s.e.GetDeleted():
		return w.bindAside(s)
	}
	s.home = w.homeOf(s)
	return w.bindFile(s)
}

// bindAside gives s its name where it is not found: nobody connects to it.
func (w *world) bindAside(s *sock) (err error) {
	switch {
	case !s.named():
		return nil
	case s.abstract():
		return bindAbstract(s)
	}
	if s.home, err = w.room(s.path()); err != nil {
		return err
	}
	return s.home.run(nil, func() error {
		if err := kernel.BindUnix(s.fd(), s.name()); err != nil {
			return fmt.Errorf("bind it: %w", err)
		}
		return unix.Chmod(s.path(), 0o777) // whoever connects for us may be any user
	})
}

func bindAbstract(s *sock) error {
	err := kernel.BindUnix(s.fd(), s.name())
	if errors.Is(err, unix.EADDRINUSE) {
		return failure.WithHint(fmt.Errorf("the abstract name %s is taken: %w", shown(s.name()), err),
			"end the program that has it, or start the container with a network of its own (--net none)")
	}
	if err != nil {
		return fmt.Errorf("bind it to %s: %w", shown(s.name()), err)
	}
	return nil
}

// bindFile binds s in the file system. Of what stands there already only a
// socket that nobody listens on any more is replaced.
func (w *world) bindFile(s *sock) error {
	var stale, made *unix.Stat_t
	full := path.Join("/", s.e.GetNameDir(), s.path())
	err := s.home.run(nil, func() (err error) {
		if unix.Access(s.path(), unix.F_OK) != nil { // else one is left there that was there before
			if err := w.r.Names.Making(full, unix.S_IFSOCK); err != nil {
				return err
			}
		}
		err = kernel.BindUnix(s.fd(), s.name())
		if errors.Is(err, unix.EADDRINUSE) {
			if stale, err = removeStale(w.r, full, s); err == nil {
				err = kernel.BindUnix(s.fd(), s.name())
			}
		}
		if errors.Is(err, unix.ENOENT) {
			return failure.WithHint(fmt.Errorf("bind it: its directory is missing: %w", err), "make the directory first")
		}
		if err != nil {
			return fmt.Errorf("bind it: %w", err)
		}
		made = new(unix.Stat_t)
		if err := unix.Lstat(s.path(), made); err != nil {
			return fmt.Errorf("stat it: %w", err)
		}
		return setPerms(s, made)
	})
	if made != nil || stale != nil {
		w.r.Undo("remove the socket "+full, func() error { return takeBack(full, made, stale) })
	}
	return err
}

// removeStale removes the socket file of that name if nobody listens on it:
// connect(2) then says ECONNREFUSED. It is what the saved container left.
func removeStale(r *kind.Restore, full string, s *sock) (*unix.Stat_t, error) {
	st := new(unix.Stat_t)
	if err := unix.Lstat(s.path(), st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return nil, failure.WithHint(errors.New("there is another file of that name"), "move the file away")
	}
	probe, err := unix.Socket(unix.AF_UNIX, s.typ()|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(probe)
	switch err := kernel.ConnectUnix(probe, s.name()); {
	case err == nil, errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EPROTOTYPE), errors.Is(err, unix.EPERM):
		return nil, failure.WithHint(errors.New("another process listens there"), "end that process first")
	case !errors.Is(err, unix.ECONNREFUSED):
		return nil, fmt.Errorf("find out whether somebody listens there: %w", err)
	}
	if err := r.Names.Removing(full, st.Mode, st.Uid, st.Gid); err != nil {
		return nil, err
	}
	return st, unix.Unlink(s.path())
}

func setPerms(s *sock, st *unix.Stat_t) error {
	p := s.e.GetFilePerms()
	if p == nil {
		return nil
	}
	if st.Uid != p.GetUid() || st.Gid != p.GetGid() {
		if err := unix.Lchown(s.path(), int(p.GetUid()), int(p.GetGid())); err != nil {
			return fmt.Errorf("give it to user %d, group %d: %w", p.GetUid(), p.GetGid(), err)
		}
	}
	if mode := p.GetMode() & 0o7777; st.Mode&0o7777 != mode {
		if err := unix.Chmod(s.path(), mode); err != nil {
			return fmt.Errorf("set its permissions: %w", err)
		}
	}
	return nil
}

// takeBack undoes bindFile: what was made is removed, what was removed is
// made again. A socket that nobody listens on is only a name.
func takeBack(full string, made, stale *unix.Stat_t) error {
	var now unix.Stat_t
	if made != nil {
		if err := unix.Lstat(full, &now); err != nil || now.Ino != made.Ino || now.Dev != made.Dev {
			return nil // gone with the container's mounts
		}
		if err := unix.Unlink(full); err != nil {
			return err
		}
	}
	if stale == nil {
		return nil
	}
	if err := unix.Mknod(full, stale.Mode, 0); err != nil {
		return err
	}
	if err := unix.Chmod(full, stale.Mode&0o7777); err != nil {
		return err
	}
	return unix.Lchown(full, int(stale.Uid), int(stale.Gid))
}
