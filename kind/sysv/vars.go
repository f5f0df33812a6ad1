package sysv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/ipc-var"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/image"
	"ckpt/kind"
	"ckpt/procfs"
	"ckpt/tracee"
)

// Defaults of a new namespace (ipc/shm.c, include/linux/ipc_namespace.h), for
// a container without /proc/sys: nothing in it can have changed them.
const (
	defaultRmidForced  = 0
	defaultQueuesMax   = 256
	defaultMsgMax      = 10
	defaultMsgsizeMax  = 8192
	defaultMsgDefault  = 10
	defaultMsgsizeDflt = 8192
)

// dumpVars saves the limits of the namespace.
func dumpVars(d *kind.Dump, ns string) error {
	e, err := limits(d)
	if err != nil {
		return err
	}
	for _, v := range []struct {
		path string
		dflt uint32
		to   **uint32
	}{
		{"kernel/shm_rmid_forced", defaultRmidForced, &e.ShmRmidForced},
		{"fs/mqueue/queues_max", defaultQueuesMax, &e.MqQueuesMax},
		{"fs/mqueue/msg_max", defaultMsgMax, &e.MqMsgMax},
		{"fs/mqueue/msgsize_max", defaultMsgsizeMax, &e.MqMsgsizeMax},
		{"fs/mqueue/msg_default", defaultMsgDefault, &e.MqMsgDefault},
		{"fs/mqueue/msgsize_default", defaultMsgsizeDflt, &e.MqMsgsizeDefault},
	} {
		n, err := readInside(d, v.path, v.dflt)
		if err != nil {
			return err
		}
		*v.to = &n
	}
	return d.Out.Add(image.IPCVar, ns, e)
}

// limits asks for those that the control calls tell (IPC_INFO).
func limits(d *kind.Dump) (*ipc_var.IpcVarEntry, error) {
	var shm, sem, msg uint64
	e := &ipc_var.IpcVarEntry{AutoMsgmni: proto.Uint32(0)} // without effect since 3.19
	err := d.Inside(func(s *tracee.Script) error {
		shm, sem, msg = s.Space(infoSize), s.Space(infoSize), s.Space(infoSize)
		s.Must(unix.SYS_SHMCTL, segments().args(0, ipcInfo, shm)...)
		s.Must(unix.SYS_SEMCTL, semaphores().args(0, ipcInfo, sem)...)
		s.Must(unix.SYS_MSGCTL, messageQueues().args(0, ipcInfo, msg)...)
		return nil
	}, func(s *tracee.Script) error {
		u64 := func(at uint64, i int) uint64 { return binary.NativeEndian.Uint64(s.Bytes(at, infoSize)[8*i:]) }
		u32 := func(at uint64, i int) *uint32 {
			return proto.Uint32(binary.NativeEndian.Uint32(s.Bytes(at, infoSize)[4*i:]))
		}
		// struct shminfo64: shmmax, shmmin, shmmni, shmseg, shmall
		e.ShmCtlmax, e.ShmCtlmni, e.ShmCtlall = proto.Uint64(u64(shm, 0)), proto.Uint32(uint32(u64(shm, 2))), proto.Uint64(u64(shm, 4))
		// struct seminfo: semmap, semmni, semmns, semmnu, semmsl, semopm; the file has them in another order
		e.SemCtls = []uint32{*u32(sem, 4), *u32(sem, 2), *u32(sem, 5), *u32(sem, 1)}
		// struct msginfo: msgpool, msgmap, msgmax, msgmnb, msgmni
		e.MsgCtlmax, e.MsgCtlmnb, e.MsgCtlmni = u32(msg, 2), u32(msg, 3), u32(msg, 4)
		return nil
	})
	return e, err
}

const ipcInfo = 3 // IPC_INFO

// readInside reads a number as init sees it: whose namespace's it is depends on
// who reads. Where there is no /proc/sys it is dflt.
func readInside(d *kind.Dump, name string, dflt uint32) (uint32, error) {
	n, err := tracee.Sysctl(d.Inside, name)
	switch {
	case errors.Is(err, unix.ENOENT):
		return dflt, nil
	case err != nil:
		return 0, err
	case n < 0 || n > math.MaxUint32:
		return 0, fmt.Errorf("%s is %d", procfs.SysctlPath(name), n)
	}
	return uint32(n), nil
}

// settings are limits to be set.
type settings struct{ all []setting }

type setting struct {
	path   string
	want   []uint64
	most   bool // an upper limit: never lower than it need be while objects are made
	always bool // written without comparing (it reads otherwise)
}

// readVars reads what the image says; none: nothing is set.
func readVars(in *image.Reader, ns string) (*settings, error) {
	if !in.Has(image.IPCVar, ns) {
		return &settings{}, nil
	}
	e, err := image.One[*ipc_var.IpcVarEntry](in, image.IPCVar, ns)
	if err != nil {
		return nil, err
	}
	s := &settings{}
	limit := func(path string, want ...uint64) { s.all = append(s.all, setting{path: path, want: want, most: true}) }
	value := func(path string, want *uint32) {
		if want != nil {
			s.all = append(s.all, setting{path: path, want: []uint64{uint64(*want)}})
		}
	}
	next := func(path string, want *uint32) {
		if want != nil && int32(*want) >= 0 {
			s.all = append(s.all, setting{path: path, want: []uint64{uint64(*want)}, always: true})
		}
	}
	if len(e.GetSemCtls()) == 4 {
		c := e.GetSemCtls()
		limit("kernel/sem", uint64(c[0]), uint64(c[1]), uint64(c[2]), uint64(c[3]))
	}
	limit("kernel/shmmax", e.GetShmCtlmax())
	limit("kernel/shmall", e.GetShmCtlall())
	limit("kernel/shmmni", uint64(e.GetShmCtlmni()))
	limit("kernel/msgmax", uint64(e.GetMsgCtlmax()))
	limit("kernel/msgmnb", uint64(e.GetMsgCtlmnb()))
	limit("kernel/msgmni", uint64(e.GetMsgCtlmni()))
	value("kernel/shm_rmid_forced", e.ShmRmidForced)
	value("fs/mqueue/queues_max", e.MqQueuesMax)
	value("fs/mqueue/msg_max", e.MqMsgMax)
	value("fs/mqueue/msgsize_max", e.MqMsgsizeMax)
	value("fs/mqueue/msg_default", e.MqMsgDefault)
	value("fs/mqueue/msgsize_default", e.MqMsgsizeDefault)
	next("kernel/shm_next_id", e.ShmNextId)
	next("kernel/sem_next_id", e.SemNextId)
	next("kernel/msg_next_id", e.MsgNextId)
	return s, nil
}

// raise lifts limits that stand lower than the image's, or than its messages.
func (s *settings) raise(r *kind.Restore, queues []*queue) error {
	for _, v := range s.all {
		if !v.most {
			continue
		}
		want := append([]uint64(nil), v.want...)
		for _, q := range queues {
			switch v.path {
			case "kernel/msgmax":
				want[0] = max(want[0], q.longest())
			case "kernel/msgmnb":
				want[0] = max(want[0], q.room())
			}
		}
		now, err := r.Sysctl(v.path)
		if err != nil {
			return err
		}
		for i := range want {
			if i < len(now) {
				want[i] = max(want[i], now[i])
			}
		}
		if err := write(r, v.path, now, want); err != nil {
			return err
		}
	}
	return nil
}

// set gives everything the image's values.
func (s *settings) set(r *kind.Restore) error {
	for _, v := range s.all {
		if v.always {
			if err := r.SetSysctl(v.path, v.want...); err != nil {
				return err
			}
			continue
		}
		now, err := r.Sysctl(v.path)
		if errors.Is(err, unix.ENOENT) && strings.HasPrefix(v.path, "fs/mqueue/") {
			continue // a kernel without POSIX message queues: nobody can ask for the limit
		}
		if err != nil {
			return err
		}
		if err := write(r, v.path, now, v.want); err != nil {
			return err
		}
	}
	return nil
}

// write does nothing where nothing changes: most containers need no rights to it.
func write(r *kind.Restore, path string, now, want []uint64) error {
	if fmt.Sprint(now) == fmt.Sprint(want) {
		return nil
	}
	return r.SetSysctl(path, want...)
}
