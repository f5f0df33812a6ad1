package kind

import (
	"encoding/binary"
	"fmt"
	"os"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fown"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/kernel"
	"ckpt/pidns"
	"ckpt/tracee"
)

// The owner's type in an image is the kernel's enum pid_type, whose first
// three values are those of F_OWNER_TID, F_OWNER_PID and F_OWNER_PGRP.

// lastSignal is the greatest number of one (_NSIG of the kernel).
const lastSignal = 64

func owner(d *Dump, desc *Desc) (*fown.FownEntry, error) {
	o, err := kernel.FileOwner(desc.File.Fd())
	if err != nil {
		return nil, fmt.Errorf("read owner (F_GETOWN_EX): %w", err)
	}
	e := &fown.FownEntry{Signum: proto.Uint32(uint32(o.Signal)), PidType: proto.Uint32(0), Pid: proto.Uint32(0),
		Uid: proto.Uint32(o.UID), Euid: proto.Uint32(o.EUID)}
	if o.PID == 0 {
		return e, nil
	}
	v, ok := d.VPID(pidns.HostPID(o.PID))
	if !ok && o.Type == kernel.OwnerGroup {
		v, ok = groupOf(d, int(o.PID))
	}
	if !ok {
		return nil, failure.WithHint(failure.Unsupportedf("its owner (F_SETOWN) is host pid %d, outside the container", o.PID),
			"start that program inside the container too")
	}
	e.PidType, e.Pid = proto.Uint32(uint32(o.Type)), proto.Uint32(uint32(v))
	return e, nil
}

// groupOf finds the group that the host numbers so by its members: its leader
// may be dead.
func groupOf(d *Dump, host int) (pidns.VPID, bool) {
	for _, p := range d.Procs {
		// The first number is that of the host, whose /proc was read.
		if p.Status != nil && len(p.Status.NSpgid) > 0 && p.Status.NSpgid[0] == host {
			return p.PGID, p.PGID != 0
		}
	}
	return 0, false
}

func restoreOwner(r *Restore, f *os.File, e *fown.FownEntry) error {
	if e == nil || e.GetPid() == 0 && e.GetSignum() == 0 {
		return nil
	}
	if e.GetSignum() > lastSignal || e.GetPidType() > kernel.OwnerGroup {
		return failure.Damagedf("its owner is of type %d, and gets signal %d", e.GetPidType(), e.GetSignum())
	}
	o := kernel.Owner{Type: int32(e.GetPidType()), Signal: int(e.GetSignum())}
	if e.GetPid() != 0 {
		h, ok, err := r.Thread(pidns.VPID(e.GetPid()))
		if err != nil {
			return err
		}
		if !ok && o.Type == kernel.OwnerGroup && r.Inside != nil {
			return ownedByGroup(r, f, e)
		}
		if !ok {
			return failure.Damagedf("its owner is pid %d, which the image does not hold", e.GetPid())
		}
		o.PID = int32(h)
	}
	if err := kernel.SetFileOwner(f.Fd(), o); err != nil {
		return fmt.Errorf("set owner (F_SETOWN_EX): %w", err)
	}
	return nil
}

// ownedByGroup is for a group whose leader is dead: the host's number of it is
// nobody's, so vpid 1 says it by the number that the container knows.
func ownedByGroup(r *Restore, f *os.File, e *fown.FownEntry) error {
	var step tracee.Step
	var fd uint64
	err := r.Inside(func(s *tracee.Script) error {
		step = r.Take(s, f)
		return nil
	}, func(s *tracee.Script) (err error) {
		fd, err = s.Result(step)
		return err
	})
	if err == nil {
		err = r.Inside(func(s *tracee.Script) error {
			ex := binary.NativeEndian.AppendUint32(nil, e.GetPidType()) // struct f_owner_ex
			ex = binary.NativeEndian.AppendUint32(ex, e.GetPid())
			s.Must(unix.SYS_FCNTL, fd, kernel.FSetOwnEx, s.Data(ex))
			s.Must(unix.SYS_FCNTL, fd, kernel.FSetSig, uint64(e.GetSignum()))
			s.Must(unix.SYS_CLOSE, fd)
			return nil
		}, nil)
	}
	if err != nil {
		return fmt.Errorf("set owner (F_SETOWN_EX) to group %d: %w", e.GetPid(), err)
	}
	return nil
}
