package sysv

import (
	"encoding/binary"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/tracee"
)

// The kernel notes of its callers who made a segment (shm_cpid), who attached
// or detached it last (shm_lpid), who sent and who received last (msg_lspid,
// msg_lrpid), who changed a semaphore last (sempid). It keeps each as a struct
// pid (since Linux 4.17), which outlives the process, and shows the number that
// it has in the reader's pid namespace.
//
// So whoever has the number does once more what notes it: a process that is
// bare as yet, or one that is there for a moment. Of segments that is the last
// thing, after all have attached theirs (last.go).

// semGetPID is GETPID of semctl(2).
const semGetPID = 11

// pidKey is an object.
type pidKey struct {
	sort image.SysVPids_Sort
	id   uint32
}

// dumpPids saves who an object's pids are, and notes those that have ended.
func dumpPids(d *kind.Dump, ns string, sort image.SysVPids_Sort, o object, pids []pidns.VPID) error {
	e := &image.SysVPids{Sort: sort, Id: uint32(o.id)}
	some := false
	for _, v := range pids {
		e.Pids = append(e.Pids, uint32(v))
		some = some || v != 0
	}
	if !some {
		return nil
	}
	for _, v := range slices.Compact(slices.Sorted(slices.Values(pids))) {
		if v == 0 || v == pidns.Init || d.Running(v) != nil {
			continue
		}
		if _, err := d.Ended(-1, v); err != nil {
			return err
		}
	}
	return d.Out.Add(image.SysVExtra, ns, e)
}

// statPids reads pids of what IPC_STAT gives. Without a pid namespace to be in
// (a test) there are none.
func (s sort) statPids(d *kind.Dump, o object, at ...int) (pids []pidns.VPID, err error) {
	if d.Within == nil {
		return nil, nil
	}
	var buf uint64
	err = d.Within(func(sc *tracee.Script) error {
		buf = sc.Space(s.size)
		sc.Note(sc.Must(s.ctl, s.args(uint64(o.id), unix.IPC_STAT, buf)...), "look at its pids")
		return nil
	}, func(sc *tracee.Script) error {
		b := sc.Bytes(buf, s.size)
		for _, n := range at {
			pids = append(pids, pidns.VPID(binary.NativeEndian.Uint32(b[n:])))
		}
		return nil
	})
	return pids, readable(err)
}

func semPids(d *kind.Dump, o object) (pids []pidns.VPID, err error) {
	if d.Within == nil {
		return nil, nil
	}
	const most = 2048 // in a script
	for from, n := 0, int(o.word(semNsems)); from < n; from += most {
		var steps []tracee.Step
		err := d.Within(func(sc *tracee.Script) error {
			for num := from; num < min(n, from+most); num++ {
				steps = append(steps, sc.Must(unix.SYS_SEMCTL, uint64(o.id), uint64(num), semGetPID))
			}
			return nil
		}, func(sc *tracee.Script) error {
			for _, step := range steps {
				p, err := sc.Result(step)
				if err != nil {
					return err
				}
				pids = append(pids, pidns.VPID(p))
			}
			return nil
		})
		if err != nil {
			return nil, readable(err)
		}
	}
	return pids, nil
}

// readPids reads those of all objects; an image may have none.
func readPids(in *image.Reader, ns string) (map[pidKey][]pidns.VPID, error) {
	out := map[pidKey][]pidns.VPID{}
	if !in.Has(image.SysVExtra, ns) {
		return out, nil
	}
	err := image.Each(in, image.SysVExtra, ns, func(e *image.SysVPids, _ func(int) ([]byte, error)) error {
		var pids []pidns.VPID
		for _, p := range e.GetPids() {
			pids = append(pids, pidns.VPID(p))
		}
		out[pidKey{e.GetSort(), e.GetId()}] = pids
		return nil
	})
	return out, err
}

// pidsOf are n pids of an object; 0 where none are known, or cannot act.
func (m *maker) pidsOf(r *kind.Restore, sort image.SysVPids_Sort, id uint32, n int) []pidns.VPID {
	out := make([]pidns.VPID, n)
	copy(out, m.pids[pidKey{sort, id}])
	for i, v := range out {
		if v != 0 && !canAct(r, v) {
			r.Log.Info("a pid of a System V object is not kept: that process has an ipc or user namespace of its own by now", "vpid", v)
			out[i] = 0
		}
	}
	return out
}

// canAct: v can run calls in the container's own ipc namespace, with all rights.
func canAct(r *kind.Restore, v pidns.VPID) bool {
	if r.As == nil || !r.Acts(v) {
		return false
	}
	for _, t := range r.Targets {
		if t.VPID == v {
			return hasRights(t)
		}
	}
	return true
}

func hasRights(t *kind.Target) bool {
	return t.IDs.GetIpcNsId() <= image.NamespaceID && t.IDs.GetUserNsId() <= image.NamespaceID
}

// getAs is a get call of v under the effective ids of an object's creator.
func getAs(r *kind.Restore, v pidns.VPID, nr uintptr, args []uintptr, uid, gid uint32) (id uintptr, err error) {
	const same = uint64(^uint32(0))
	euid, egid := uint64(unix.Geteuid()), uint64(unix.Getegid()) // also the bare process's
	var get tracee.Step
	err = r.As(v, func(s *tracee.Script) error {
		if uint64(gid) != egid {
			s.Note(s.Must(unix.SYS_SETRESGID, same, uint64(gid), same), "become the group that made it")
		}
		if uint64(uid) != euid {
			s.Note(s.Must(unix.SYS_SETRESUID, same, uint64(uid), same), "become the user who made it")
		}
		get = s.Try(nr, uint64(args[0]), uint64(args[1]), uint64(args[2]))
		if uint64(uid) != euid {
			s.Must(unix.SYS_SETRESUID, same, euid, same)
		}
		if uint64(gid) != egid {
			s.Must(unix.SYS_SETRESGID, same, egid, same)
		}
		return nil
	}, func(s *tracee.Script) error {
		n, err := s.Result(get)
		id = uintptr(n)
		return err
	})
	return id, err
}

// setPids has the last ones send to and receive from the queue: a message of a
// type that is not in it.
func (q *queue) setPids(r *kind.Restore, pids []pidns.VPID) error {
	if pids[0] == 0 && pids[1] == 0 {
		return nil
	}
	id, kind := int(q.e.GetDesc().GetId()), q.unusedType()
	if err := q.sendAs(r, pids[0], id, kind); err != nil {
		return fmt.Errorf("send as pid %d: %w", pids[0], err)
	}
	if err := receiveAs(r, pids[1], id, kind); err != nil {
		return fmt.Errorf("receive as pid %d: %w", pids[1], err)
	}
	return nil
}

func (q *queue) unusedType() int64 {
	kind := int64(1)
	for slices.ContainsFunc(q.messages, func(m message) bool { return m.kind == kind }) {
		kind++
	}
	return kind
}

func (q *queue) sendAs(r *kind.Restore, v pidns.VPID, id int, kind int64) error {
	if v == 0 {
		return kernel.Msgsnd(id, kind, nil)
	}
	return r.As(v, func(s *tracee.Script) error {
		s.Must(unix.SYS_MSGSND, uint64(id), s.Data(binary.NativeEndian.AppendUint64(nil, uint64(kind))), 0, unix.IPC_NOWAIT)
		return nil
	}, nil)
}

func receiveAs(r *kind.Restore, v pidns.VPID, id int, kind int64) error {
	if v == 0 {
		return kernel.Msgrcv(id, kind)
	}
	return r.As(v, func(s *tracee.Script) error {
		s.Must(unix.SYS_MSGRCV, uint64(id), s.Space(8), 0, uint64(kind), unix.IPC_NOWAIT)
		return nil
	}, nil)
}

// setPids has those who changed a semaphore last raise and lower it.
func (s madeSet) setPids(r *kind.Restore, pids []pidns.VPID) error {
	const most = 64 // pairs in a call
	by := map[pidns.VPID][]int{}
	for num, v := range pids {
		if v != 0 {
			by[v] = append(by[v], num)
		}
	}
	for v, nums := range by {
		for some := range slices.Chunk(nums, most) {
			var ops []kernel.SemOp
			for _, num := range some {
				up := int16(1)
				if s.values[num] == semMax {
					up = -1
				}
				ops = append(ops, kernel.SemOp{Num: uint16(num), Op: up, Flags: unix.IPC_NOWAIT}, kernel.SemOp{Num: uint16(num), Op: -up, Flags: unix.IPC_NOWAIT})
			}
			err := r.As(v, func(sc *tracee.Script) error {
				addSemop(sc, sc.Must, s.id, ops)
				return nil
			}, nil)
			if err != nil {
				return fmt.Errorf("semaphore set %d as pid %d: %w", s.id, v, err)
			}
		}
	}
	return nil
}
