package sysv

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/ipc-desc"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kind"
	"ckpt/pidns"
)

// permissions are the bits of a mode that msgget(2) and its like take.
const permissions = 0o777

// make makes an object with the id, key, owner and creator of e, by a call of
// the process maker, or of ckpt (0). args are the
// arguments of the get call but for the flags; adjust may change what IPC_SET
// sets, of which it gets the bytes.
func (s sort) make(r *kind.Restore, maker pidns.VPID, e *ipc_desc.IpcDescEntry, args []uintptr, flags uint32, adjust func([]byte)) error {
	if int32(e.GetId()) < 0 {
		return failure.Damagedf("%s with id %d", s.name, int32(e.GetId()))
	}
	if err := r.SetSysctl(s.next, uint64(e.GetId())); err != nil {
		return err
	}
	flags |= e.GetMode()&permissions | unix.IPC_CREAT | unix.IPC_EXCL
	a := append(append([]uintptr{}, args...), uintptr(flags), 0)
	id, err := s.call(r, maker, a, e)
	if err != nil {
		return err
	}
	if id != uintptr(e.GetId()) {
		return fmt.Errorf("the kernel gave it id %d", id)
	}
	if adjust == nil && e.GetUid() == e.GetCuid() && e.GetGid() == e.GetCgid() {
		return nil
	}
	return s.own(e, adjust)
}

func (s sort) call(r *kind.Restore, maker pidns.VPID, args []uintptr, e *ipc_desc.IpcDescEntry) (id uintptr, err error) {
	if maker != 0 {
		if id, err = getAs(r, maker, s.get, args, e.GetCuid(), e.GetCgid()); err != nil {
			err = fmt.Errorf("make it as pid %d: %w", maker, err)
		}
		return id, err
	}
	err = as(e.GetCuid(), e.GetCgid(), func() error {
		var errno unix.Errno
		if id, _, errno = unix.Syscall(s.get, args[0], args[1], args[2]); errno != 0 {
			return fmt.Errorf("make it: %w", errno)
		}
		return nil
	})
	return id, err
}

// own sets the owner.
func (s sort) own(e *ipc_desc.IpcDescEntry, adjust func([]byte)) error {
	id, buf := int(e.GetId()), make([]byte, s.size)
	if _, err := s.set(id, unix.IPC_STAT, buf); err != nil {
		return fmt.Errorf("look at it: %w", err)
	}
	binary.NativeEndian.PutUint32(buf[permUID:], e.GetUid())
	binary.NativeEndian.PutUint32(buf[permGID:], e.GetGid())
	if adjust != nil {
		adjust(buf)
	}
	if _, err := s.set(id, unix.IPC_SET, buf); err != nil {
		return fmt.Errorf("set its owner %d:%d: %w", e.GetUid(), e.GetGid(), err)
	}
	return nil
}

// as runs fn with other effective ids, which the kernel notes as an object's
// creator (cuid, cgid of ipc_perm) and nothing else can set. Only this thread
// changes: raw calls, since setresuid(3) would change all of Go's.
func as(uid, gid uint32, fn func() error) (err error) {
	euid, egid := unix.Geteuid(), unix.Getegid()
	if int(gid) != egid {
		if err := effective(unix.SYS_SETRESGID, gid); err != nil {
			return fmt.Errorf("become group %d, which made it: %w", gid, err)
		}
		defer func() { err = errors.Join(err, effective(unix.SYS_SETRESGID, uint32(egid))) }()
	}
	if int(uid) != euid {
		if err := effective(unix.SYS_SETRESUID, uid); err != nil {
			return fmt.Errorf("become user %d, who made it: %w", uid, err)
		}
		defer func() { err = errors.Join(err, effective(unix.SYS_SETRESUID, uint32(euid))) }()
	}
	return fn()
}

func effective(nr uintptr, id uint32) error {
	if _, _, e := unix.RawSyscall(nr, ^uintptr(0), uintptr(id), ^uintptr(0)); e != 0 {
		return e
	}
	return nil
}
