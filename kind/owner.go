package kind

import (
	"fmt"
	"os"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fown"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/kernel"
	"ckpt/pidns"
)

// The owner's type in an image is the kernel's enum pid_type, whose first
// three values are those of F_OWNER_TID, F_OWNER_PID and F_OWNER_PGRP.

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
	if !ok {
		return nil, failure.WithHint(failure.Unsupportedf("its owner (F_SETOWN) is host pid %d, outside the container", o.PID),
			"start that program inside the container too")
	}
	e.PidType, e.Pid = proto.Uint32(uint32(o.Type)), proto.Uint32(uint32(v))
	return e, nil
}

func restoreOwner(r *Restore, f *os.File, e *fown.FownEntry) error {
	if e == nil || e.GetPid() == 0 && e.GetSignum() == 0 {
		return nil
	}
	o := kernel.Owner{Type: int32(e.GetPidType()), Signal: int(e.GetSignum())}
	if e.GetPid() != 0 {
		h, ok := r.HostPID(pidns.VPID(e.GetPid()))
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
