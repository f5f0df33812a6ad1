package kernel

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Commands of shmctl(2), semctl(2) and msgctl(2) (include/uapi/linux/shm.h,
// sem.h, msg.h). The ANY ones ask for no read permission and came with 4.17.
const (
	IPCInfo     = 3
	ShmStatAny  = 15
	ShmInfo     = 14
	ShmLock     = 11
	SemGetAll   = 13
	SemSetAll   = 17
	SemInfo     = 19
	SemStatAny  = 20
	MsgInfo     = 12
	MsgStatAny  = 13
	MsgCopy     = 0o40000 // msgrcv(2): take a copy of the message at an index; CONFIG_CHECKPOINT_RESTORE
	ShmModeDest = 0o1000  // shm_perm.mode: removed, lives until the last detach
	ShmModeLock = 0o2000  // shm_perm.mode: SHM_LOCK
)

// Shmctl is shmctl(2); buf must be as long as the command needs.
func Shmctl(id, cmd int, buf []byte) (int, error) {
	return ipc(unix.SYS_SHMCTL, uintptr(id), uintptr(cmd), buf)
}

// Msgctl is msgctl(2).
func Msgctl(id, cmd int, buf []byte) (int, error) {
	return ipc(unix.SYS_MSGCTL, uintptr(id), uintptr(cmd), buf)
}

func ipc(nr, id, cmd uintptr, buf []byte) (int, error) {
	r, _, e := unix.Syscall(nr, id, cmd, uintptr(unsafe.Pointer(unsafe.SliceData(buf))))
	if e != 0 {
		return 0, e
	}
	return int(r), nil
}

// Semctl is semctl(2) on the set, not on one semaphore of it.
func Semctl(id, cmd int, buf []byte) (int, error) {
	r, _, e := unix.Syscall6(unix.SYS_SEMCTL, uintptr(id), 0, uintptr(cmd), uintptr(unsafe.Pointer(unsafe.SliceData(buf))), 0, 0)
	if e != 0 {
		return 0, e
	}
	return int(r), nil
}

// Msgsnd is msgsnd(2) with IPC_NOWAIT.
func Msgsnd(id int, kind int64, text []byte) error {
	buf := append(binary.NativeEndian.AppendUint64(nil, uint64(kind)), text...)
	_, _, e := unix.Syscall6(unix.SYS_MSGSND, uintptr(id), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(text)), unix.IPC_NOWAIT, 0, 0)
	if e != 0 {
		return e
	}
	return nil
}

// Msgrcv takes the first message of that kind, which has no text, from the queue.
func Msgrcv(id int, kind int64) error {
	var buf [8]byte
	_, _, e := unix.Syscall6(unix.SYS_MSGRCV, uintptr(id), uintptr(unsafe.Pointer(&buf)), 0, uintptr(kind), unix.IPC_NOWAIT, 0)
	if e != 0 {
		return e
	}
	return nil
}

// MsgrcvCopy copies the message at index of the queue, up to max bytes of it,
// and leaves it there.
func MsgrcvCopy(id, index, max int) (kind int64, text []byte, err error) {
	buf := make([]byte, 8+max)
	n, _, e := unix.Syscall6(unix.SYS_MSGRCV, uintptr(id), uintptr(unsafe.Pointer(&buf[0])), uintptr(max), uintptr(index), MsgCopy|unix.IPC_NOWAIT, 0)
	if e != 0 {
		return 0, nil, e
	}
	return int64(binary.NativeEndian.Uint64(buf)), buf[8 : 8+n], nil
}

// ShmAttach attaches a segment at an address of the kernel's choice, for
// reading and writing. size is rounded up to whole pages, so that the rest of
// the last page is there, too.
func ShmAttach(id int, size uint64) ([]byte, error) {
	page := uint64(unix.Getpagesize())
	at, _, e := unix.Syscall(unix.SYS_SHMAT, uintptr(id), 0, 0)
	if e != 0 {
		return nil, e
	}
	// Not (unsafe.Pointer)(at): the address is the kernel's, no object of Go's.
	return unsafe.Slice(*(**byte)(unsafe.Pointer(&at)), (size+page-1)&^(page-1)), nil
}

// ShmDetach undoes ShmAttach.
func ShmDetach(b []byte) error {
	if _, _, e := unix.Syscall(unix.SYS_SHMDT, uintptr(unsafe.Pointer(unsafe.SliceData(b))), 0, 0); e != 0 {
		return e
	}
	return nil
}

// SemOp is struct sembuf of semop(2).
type SemOp struct {
	Num       uint16
	Op, Flags int16
}

// SemUndo is SEM_UNDO, a flag of SemOp.
const SemUndo = 0x1000

// Semop is semop(2): all operations on a set, or none of them.
func Semop(id int, ops ...SemOp) error {
	if _, _, e := unix.Syscall(unix.SYS_SEMOP, uintptr(id), uintptr(unsafe.Pointer(unsafe.SliceData(ops))), uintptr(len(ops))); e != 0 {
		return e
	}
	return nil
}
