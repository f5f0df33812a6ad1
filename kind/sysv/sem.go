package sysv

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/ipc-sem"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/tracee"
)

// maxSems is more than any set has: semget(2) takes no more than SEMMSL,
// 32000 unless somebody raised it.
const maxSems = 1 << 18

// dumpSem saves every semaphore set with its values, 16 bits each.
func dumpSem(d *kind.Dump, ns string) error {
	sets, err := semaphores().list(d)
	if err != nil || len(sets) == 0 {
		return err
	}
	for _, o := range sets {
		values, err := semValues(d, o)
		if err != nil {
			return fmt.Errorf("semaphore set %d: %w", o.id, err)
		}
		e := &ipc_sem.IpcSemEntry{Desc: o.desc(), Nsems: proto.Uint32(uint32(len(values) / 2))}
		if err := d.Out.Add(image.IPCSem, ns, e, padded(values)); err != nil {
			return err
		}
		pids, err := semPids(d, o)
		if err == nil {
			err = dumpPids(d, ns, image.SysVPids_SEMAPHORES, o, pids)
		}
		if err != nil {
			return fmt.Errorf("semaphore set %d: %w", o.id, err)
		}
	}
	return nil
}

// semValues are the values of a set, two bytes each.
func semValues(d *kind.Dump, o object) (values []byte, err error) {
	n := 2 * int(o.word(semNsems))
	var buf uint64
	err = d.Inside(func(s *tracee.Script) error {
		buf = s.Space(n)
		s.Note(s.Must(unix.SYS_SEMCTL, uint64(o.id), 0, kernel.SemGetAll, buf), "read semaphore values")
		return nil
	}, func(s *tracee.Script) error {
		values = bytes.Clone(s.Bytes(buf, n))
		return nil
	})
	return values, readable(err)
}

// madeSet is a set that has been made.
type madeSet struct {
	id     int
	values []uint16
}

// restoreSem makes the sets, gives the processes their undo values, and at
// last has those change each semaphore who did so last.
func (m *maker) restoreSem(r *kind.Restore, ns string) error {
	var sets []madeSet
	err := image.Each(r.In, image.IPCSem, ns, func(e *ipc_sem.IpcSemEntry, data func(int) ([]byte, error)) error {
		n, id := int(e.GetNsems()), int(e.GetDesc().GetId())
		if n <= 0 || n > maxSems {
			return failure.Damagedf("semaphore set %d has %d semaphores", id, n)
		}
		values, err := data(pad8(2 * n))
		if err != nil {
			return err
		}
		if err := setSem(r, e, values); err != nil {
			return fmt.Errorf("semaphore set %d: %w", id, err)
		}
		set := madeSet{id: id}
		for i := range n {
			set.values = append(set.values, binary.LittleEndian.Uint16(values[2*i:]))
		}
		sets = append(sets, set)
		return nil
	})
	if err != nil {
		return err
	}
	if err := restoreUndo(r); err != nil {
		return err
	}
	for _, set := range sets {
		if err := set.setPids(r, m.pidsOf(r, image.SysVPids_SEMAPHORES, uint32(set.id), len(set.values))); err != nil {
			return err
		}
	}
	return nil
}

func setSem(r *kind.Restore, e *ipc_sem.IpcSemEntry, values []byte) error {
	for i := range int(e.GetNsems()) {
		if v := binary.LittleEndian.Uint16(values[2*i:]); v > 32767 { // SEMVMX
			return failure.Damagedf("its semaphore %d has value %d", i, v)
		}
	}
	d := e.GetDesc()
	if err := semaphores().make(r, 0, d, []uintptr{uintptr(d.GetKey()), uintptr(e.GetNsems())}, 0, nil); err != nil {
		return err
	}
	if _, err := kernel.Semctl(int(d.GetId()), kernel.SemSetAll, values); err != nil {
		return fmt.Errorf("set its values: %w", err)
	}
	return nil
}
