package unixsock

import (
	"encoding/binary"
	"fmt"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"ckpt/image"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/tracee"
)

// For SO_PEERCRED the kernel records who calls socketpair(2), listen(2) and
// connect(2). So the process that did makes the socket, ckpt takes it from
// there (pidfd_getfd(2)) and has it call what it has to call. One that has
// ended is there again for that. Where the driver cannot run anything in it
// (it was outside of the container), ckpt itself does it under the same user and
// group, and the pid reads 0.

// remote is a socket as a process being rebuilt has it for the moment.
type remote struct {
	r    *kind.Restore
	cred *image.Ucred
	fd   uint64
}

// canBe tells whether calls can be run as c.
func (w *world) canBe(c *image.Ucred) bool {
	return w.r.As != nil && c.GetPid() != 0 && w.r.Acts(pidns.VPID(c.GetPid()))
}

// as runs the calls that build adds under pid, user and group of c. The bare
// process goes back to its own ids: it needs their privileges.
func as(r *kind.Restore, c *image.Ucred, build func(*tracee.Script), read func(*tracee.Script) error) error {
	const same = uint64(^uint32(0))
	own, want, err := identities(r, c)
	if err != nil {
		return fmt.Errorf("look at the ids of pid %d: %w", c.GetPid(), err)
	}
	groups := !sameGroups(own.groups, want.groups)
	return r.As(pidns.VPID(c.GetPid()), func(s *tracee.Script) error {
		if groups {
			setGroups(s, want.groups)
		}
		// Changing ids makes a process undumpable, and so hard to get at.
		if want.gid != own.gid {
			s.Try(unix.SYS_SETRESGID, same, want.gid, same)
		}
		if want.uid != own.uid {
			s.Try(unix.SYS_SETRESUID, same, want.uid, same)
		}
		build(s)
		if want.uid != own.uid {
			s.Must(unix.SYS_SETRESUID, same, own.uid, same)
		}
		if want.gid != own.gid {
			s.Must(unix.SYS_SETRESGID, same, own.gid, same)
		}
		if groups {
			setGroups(s, own.groups)
		}
		return nil
	}, read)
}

type identity struct {
	uid, gid uint64
	groups   []uint32
}

// identities are the effective ids and the groups that a bare process has, and
// those of c, as it calls them: those of ckpt, or, in a user namespace made
// inside, already its own. One without a number there is left as it is.
func identities(r *kind.Restore, c *image.Ucred) (own, want identity, err error) {
	i := slices.IndexFunc(r.Targets, func(t *kind.Target) bool { return uint32(t.VPID) == c.GetPid() })
	if i < 0 || r.Targets[i].IDs.GetUserNsId() <= image.NamespaceID {
		own = identity{uid: uint64(os.Geteuid()), gid: uint64(os.Getegid())}
		want = identity{uid: uint64(c.GetUid()), gid: uint64(c.GetGid())}
		own.groups, want.groups, err = groupsFor(r, nil, c)
		return own, want, err
	}
	t, users := r.Targets[i], r.Manifest.GetUserNamespaces()
	e := t.Threads[0].Core.GetThreadCore().GetCreds()
	number := func(gids bool, of, instead uint32) uint64 {
		n, ok := image.UserNumber(users, t.IDs.GetUserNsId(), gids, of)
		if !ok && of != instead {
			n, ok = image.UserNumber(users, t.IDs.GetUserNsId(), gids, instead)
		}
		if !ok {
			return uint64(^uint32(0)) // no change
		}
		return uint64(n)
	}
	own = identity{uid: number(false, e.GetEuid(), e.GetEuid()), gid: number(true, e.GetEgid(), e.GetEgid())}
	want = identity{uid: number(false, c.GetUid(), e.GetEuid()), gid: number(true, c.GetGid(), e.GetEgid())}
	own.groups, want.groups, err = groupsFor(r, t, c)
	return own, want, err
}

// call runs one call as c.
func call(r *kind.Restore, c *image.Ucred, what string, nr uintptr, args func(*tracee.Script) []uint64) (uint64, error) {
	var step tracee.Step
	var res uint64
	err := as(r, c, func(s *tracee.Script) { step = s.Try(nr, args(s)...) }, func(s *tracee.Script) (err error) {
		res, err = s.Result(step)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("%s in pid %d: %w", what, c.GetPid(), err)
	}
	return res, nil
}

func numbers(v ...uint64) func(*tracee.Script) []uint64 {
	return func(*tracee.Script) []uint64 { return v }
}

// openAs makes s, in the process of c where that is possible.
func (w *world) openAs(s *sock, c *image.Ucred) error {
	if !w.canBe(c) {
		return s.open()
	}
	n, err := call(w.r, c, "make a unix socket", unix.SYS_SOCKET, numbers(unix.AF_UNIX, uint64(s.typ()|unix.SOCK_CLOEXEC), 0))
	if err != nil {
		return err
	}
	s.there = &remote{w.r, c, n}
	fd, err := s.there.take(n)
	if err != nil {
		return err
	}
	return s.keep(fd)
}

func (t *remote) take(n uint64) (int, error) {
	host, ok := t.r.HostPID(pidns.VPID(t.cred.GetPid()))
	if !ok {
		return -1, fmt.Errorf("take a socket from pid %d: %w", t.cred.GetPid(), unix.ESRCH)
	}
	pidfd, err := unix.PidfdOpen(int(host), 0)
	if err != nil {
		return -1, fmt.Errorf("take a socket from pid %d: %w", t.cred.GetPid(), err)
	}
	defer unix.Close(pidfd)
	fd, err := unix.PidfdGetfd(pidfd, int(n), 0)
	if err != nil {
		return -1, fmt.Errorf("take a socket from pid %d (pidfd_getfd): %w", t.cred.GetPid(), err)
	}
	return fd, nil
}

func (t *remote) listen(backlog int) error {
	_, err := call(t.r, t.cred, "listen", unix.SYS_LISTEN, numbers(t.fd, uint64(backlog)))
	return err
}

// connect: sa is a struct sockaddr_un.
func (t *remote) connect(sa []byte) error {
	_, err := call(t.r, t.cred, "connect", unix.SYS_CONNECT, func(s *tracee.Script) []uint64 {
		return []uint64{t.fd, s.Data(sa), uint64(len(sa))}
	})
	return err
}

// leave closes the socket where it was made. Should that fail, it is closed
// when the process gets its own table of descriptors.
func (s *sock) leave() {
	if s.there == nil {
		return
	}
	t := s.there
	s.there = nil
	if _, err := call(t.r, t.cred, "close a unix socket", unix.SYS_CLOSE, numbers(t.fd)); err != nil {
		t.r.Log.Debug("a socket stays open for a moment", "err", err)
	}
}

// reach is the address of s for any process of the container, whatever its
// directory; nil: it cannot be reached.
func (s *sock) reach() []byte {
	sa := binary.NativeEndian.AppendUint16(nil, unix.AF_UNIX)
	if s.abstract() {
		return append(sa, s.name()...)
	}
	if s.e.GetDeleted() || s.home.aside {
		return nil
	}
	full := path.Join("/", s.e.GetNameDir(), s.path())
	if len(full) > 107 {
		return nil
	}
	return append(append(sa, full...), 0)
}

// pairAs is socketpair(2) as c.
func (w *world) pairAs(typ int, c *image.Ucred) (p [2]int, err error) {
	t := &remote{w.r, c, 0}
	var fds uint64
	var step tracee.Step
	var there [2]uint64
	err = as(w.r, c, func(s *tracee.Script) {
		fds = s.Space(8)
		step = s.Try(unix.SYS_SOCKETPAIR, unix.AF_UNIX, uint64(typ|unix.SOCK_CLOEXEC), 0, fds)
	}, func(s *tracee.Script) error {
		b := s.Bytes(fds, 8)
		there = [2]uint64{uint64(binary.NativeEndian.Uint32(b)), uint64(binary.NativeEndian.Uint32(b[4:]))}
		_, err := s.Result(step)
		return err
	})
	if err != nil {
		return p, fmt.Errorf("make a pair of unix sockets in pid %d: %w", c.GetPid(), err)
	}
	for i, n := range there {
		fd, e := t.take(n)
		if e != nil && err == nil {
			err = e
		}
		p[i] = fd
		(&sock{there: &remote{w.r, c, n}}).leave()
	}
	if err != nil {
		closeAll(p[:])
	}
	return p, err
}
