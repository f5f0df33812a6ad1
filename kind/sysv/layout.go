package sysv

import (
	"encoding/binary"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/ipc-desc"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/kernel"
)

// Sizes and offsets of the kernel's structures on 64-bit machines
// (include/uapi/asm-generic/{ipc,shm,msg}buf.h), in bytes.
const (
	permUID   = 4
	permGID   = 8
	permMode  = 20
	permSize  = 48
	shmSegsz  = permSize
	shmCpid   = permSize + 32
	shmLpid   = permSize + 36
	shmSize   = permSize + 64
	semOtime  = permSize
	msgStime  = permSize
	msgRtime  = permSize + 8
	msgCbytes = permSize + 24
	msgQnum   = permSize + 32
	msgQbytes = permSize + 40
	msgLspid  = permSize + 48
	msgLrpid  = permSize + 52
	msgSize   = permSize + 72
	semSize   = semNsems + 24
)

// sort is one of the three sorts of objects.
type sort struct {
	name    string
	ctl     uintptr // the system call
	extra   bool    // semctl(2) has one argument more in front of cmd
	info    uint64
	stat    uint64
	size    int // of what stat gives
	countAt int // of the number of objects in what info gives
	next    string
	get     uintptr
	set     func(id, cmd int, buf []byte) (int, error)
}

func segments() sort {
	return sort{name: "segment", ctl: unix.SYS_SHMCTL, info: kernel.ShmInfo, stat: kernel.ShmStatAny, size: shmSize, countAt: 0,
		next: "kernel/shm_next_id", get: unix.SYS_SHMGET, set: kernel.Shmctl}
}

func semaphores() sort {
	return sort{name: "semaphore set", ctl: unix.SYS_SEMCTL, extra: true, info: kernel.SemInfo, stat: kernel.SemStatAny, size: semSize, countAt: 7 * 4,
		next: "kernel/sem_next_id", get: unix.SYS_SEMGET, set: kernel.Semctl}
}

func messageQueues() sort {
	return sort{name: "message queue", ctl: unix.SYS_MSGCTL, info: kernel.MsgInfo, stat: kernel.MsgStatAny, size: msgSize, countAt: 0,
		next: "kernel/msg_next_id", get: unix.SYS_MSGGET, set: kernel.Msgctl}
}

// args are the arguments of a control call.
func (s sort) args(id, cmd, buf uint64) []uint64 {
	if s.extra {
		return []uint64{id, 0, cmd, buf}
	}
	return []uint64{id, cmd, buf}
}

// object is one of them as its stat command shows it.
type object struct {
	id  int
	raw []byte
}

func (o object) word(at int) uint64 { return binary.NativeEndian.Uint64(o.raw[at:]) }

// desc is the part that all sorts have.
func (o object) desc() *ipc_desc.IpcDescEntry {
	n := func(at int) *uint32 { return proto.Uint32(binary.NativeEndian.Uint32(o.raw[at:])) }
	return &ipc_desc.IpcDescEntry{
		Key: n(0), Uid: n(permUID), Gid: n(permGID), Cuid: n(12), Cgid: n(16), Mode: n(permMode), Id: proto.Uint32(uint32(o.id)),
	}
}

// padded is data as CRIU stores it: filled up to a multiple of 8 bytes.
func padded(b []byte) []byte { return append(b, make([]byte, pad8(len(b))-len(b))...) }

func pad8(n int) int { return (n + 7) &^ 7 }
