package kernel

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Values of fcntl(2) that x/sys lacks (include/uapi/asm-generic/fcntl.h).
const (
	FSetSig       = 10
	fGetSig       = 11
	FSetOwnEx     = 15
	fGetOwnEx     = 16
	fGetOwnerUIDs = 17 // CONFIG_CHECKPOINT_RESTORE
)

// Types of an Owner: F_OWNER_TID and F_OWNER_PGRP of fcntl(2).
const (
	OwnerThread = 0
	OwnerGroup  = 2
)

// Owner is who gets SIGIO of an open file description (F_SETOWN_EX, F_SETSIG
// of fcntl(2)). PID is a number of the caller's pid namespace; 0: nobody.
type Owner struct {
	Type      int32 // OwnerThread, F_OWNER_PID 1, OwnerGroup
	PID       int32
	Signal    int // 0: SIGIO
	UID, EUID uint32
}

// FileOwner reads the owner of fd.
func FileOwner(fd uintptr) (Owner, error) {
	var ex struct{ kind, pid int32 }
	if err := fcntl(fd, fGetOwnEx, unsafe.Pointer(&ex)); err != nil {
		return Owner{}, err
	}
	sig, err := unix.FcntlInt(fd, fGetSig, 0)
	if err != nil {
		return Owner{}, err
	}
	var ids [2]uint32
	if err := fcntl(fd, fGetOwnerUIDs, unsafe.Pointer(&ids)); err != nil {
		return Owner{}, err
	}
	return Owner{Type: ex.kind, PID: ex.pid, Signal: sig, UID: ids[0], EUID: ids[1]}, nil
}

// SetFileOwner sets owner and signal of fd.
func SetFileOwner(fd uintptr, o Owner) error {
	if o.PID != 0 {
		ex := struct{ kind, pid int32 }{o.Type, o.PID}
		if err := fcntl(fd, FSetOwnEx, unsafe.Pointer(&ex)); err != nil {
			return err
		}
	}
	_, err := unix.FcntlInt(fd, FSetSig, o.Signal)
	return err
}

// WriteHint reads how long what is written to a file is expected to live
// (F_GET_RW_HINT of fcntl(2), 4.13), 0: not said. It belongs to the inode.
func WriteHint(fd uintptr) (uint64, error) {
	var hint uint64
	err := fcntl(fd, unix.F_GET_RW_HINT, unsafe.Pointer(&hint))
	return hint, err
}

// SetWriteHint sets it, which takes being the file's owner, or CAP_FOWNER.
func SetWriteHint(fd uintptr, hint uint64) error {
	return fcntl(fd, unix.F_SET_RW_HINT, unsafe.Pointer(&hint))
}

func fcntl(fd uintptr, cmd int, arg unsafe.Pointer) error {
	if _, _, e := unix.Syscall(unix.SYS_FCNTL, fd, uintptr(cmd), uintptr(arg)); e != 0 {
		return e
	}
	return nil
}
