package unixsock

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kernel"
)

// place is from where a name is looked up: a root, and where the program had
// changed its root or its directory when it bound the name.
type place struct {
	root        *os.File // nil: nowhere (abstract names need no place)
	chroot, cwd string   // below root; "": root itself
	aside       bool     // root is no part of the container's file system
}

// run runs fn where names are looked up from p, as the user of c (nil: as
// ckpt). The kernel keeps the name of a socket as it was given to bind(2), so
// a relative one has to be bound from the same directory, and one from another
// root under that root.
func (p place) run(c *image.Ucred, fn func() error) error {
	if p.root == nil && c == nil {
		return fn()
	}
	return kernel.OnThread(func() error {
		if err := p.enter(); err != nil {
			return err
		}
		become(c)
		return fn()
	})
}

func (p place) enter() error {
	if p.root == nil {
		return nil
	}
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("get a root directory (unshare): %w", err)
	}
	for _, step := range []func() error{
		func() error { return unix.Fchdir(int(p.root.Fd())) },
		func() error { return unix.Chroot(".") },
		func() error { return unix.Chdir("/" + p.chroot) },
		func() error { return unix.Chroot(".") },
		func() error { return unix.Chdir("/" + p.cwd) },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("go to %s: %w", path.Join("/", p.chroot, p.cwd), err)
		}
	}
	return nil
}

// become changes the effective ids and the groups of this thread alone (x/sys
// changes those of all), for what the kernel records of the caller (SO_PEERCRED). Where
// that is not allowed ckpt's own are recorded.
func become(c *image.Ucred) {
	if c == nil {
		return
	}
	const same = ^uintptr(0)
	_ = kernel.SetThreadGroups(c.GetGroups())
	_, _, _ = unix.RawSyscall(unix.SYS_SETRESGID, same, uintptr(c.GetGid()), same)
	_, _, _ = unix.RawSyscall(unix.SYS_SETRESUID, same, uintptr(c.GetUid()), same)
}

// homeOf is the place of a name in the container's file system.
func (w *world) homeOf(s *sock) place {
	p := place{root: w.root}
	if path.IsAbs(s.path()) {
		p.chroot = s.e.GetNameDir()
	} else {
		p.cwd = s.e.GetNameDir()
	}
	return p
}

// room is a place where any name is free: a directory of a file system that
// is mounted nowhere and goes away with the last socket bound in it. For names
// whose file is gone, or belongs to another socket.
func (w *world) room(name string) (place, error) {
	if w.private == nil {
		f, err := newTmpfs()
		if err != nil {
			return place{}, err
		}
		w.private = f
	}
	w.rooms++
	p := place{root: w.private, chroot: fmt.Sprintf("room%d", w.rooms), aside: true}
	if err := unix.Mkdirat(int(w.private.Fd()), p.chroot, 0o755); err != nil {
		return p, fmt.Errorf("make a place for %s: %w", name, err)
	}
	return p, p.run(nil, func() error { return makeParents(name) })
}

// makeParents makes every directory that name goes through.
func makeParents(name string) error {
	for i := 1; i < len(name); i++ {
		if name[i] != '/' || strings.HasSuffix(name[:i], "/") {
			continue
		}
		if err := unix.Mkdir(name[:i], 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("make a place for %s: %w", name, err)
		}
	}
	return nil
}

// newTmpfs is a file system that is mounted nowhere (fsmount(2), Linux 5.2).
// It runs on the thread that is in the container's mount namespace, over
// which ckpt has CAP_SYS_ADMIN.
func newTmpfs() (*os.File, error) {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err == nil {
		defer unix.Close(fs)
		err = unix.FsconfigCreate(fs)
	}
	if err == nil {
		var m int
		if m, err = unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0); err == nil {
			return os.NewFile(uintptr(m), "tmpfs"), nil
		}
	}
	err = fmt.Errorf("make a file system for socket names (fsmount): %w", err)
	if errors.Is(err, unix.EPERM) {
		return nil, failure.Mark(failure.ErrUnsupported, err)
	}
	return nil, err
}
