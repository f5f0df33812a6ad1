package sysv

import (
	"cmp"
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/ipc-shm"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/procfs"
	"ckpt/tracee"
)

// Flags of shmget(2) (include/uapi/linux/shm.h).
const (
	shmHugetlb   = 0o4000
	hugeShift    = 26 // log2 of the page size stands above it
	hugeSizeMask = 63
)

// dumpShm saves every segment. All are attached to ckpt's bare child at once, and read
// from there: if ckpt dies, it dies, and they are detached.
func dumpShm(d *kind.Dump, ns string) (err error) {
	all, err := segments().list(d)
	if err != nil || len(all) == 0 {
		return err
	}
	// Before the child has attached and detached them.
	pids := make([][]pidns.VPID, len(all))
	for i, o := range all {
		if pids[i], err = segments().statPids(d, o, shmCpid, shmLpid); err != nil {
			return fmt.Errorf("segment %d: %w", o.id, err)
		}
	}
	at := make([]tracee.Step, len(all))
	addr := make([]uint64, len(all))
	defer func() { err = errors.Join(err, detach(d, addr), putBack(d, all, pids)) }()
	err = d.Inside(func(s *tracee.Script) error {
		for i, o := range all {
			at[i] = s.Try(unix.SYS_SHMAT, uint64(o.id), 0, unix.SHM_RDONLY)
		}
		return nil
	}, func(s *tracee.Script) error {
		var failed error
		for i, o := range all {
			var err error
			if addr[i], err = s.Result(at[i]); err != nil {
				addr[i] = 0
				failed = errors.Join(failed, fmt.Errorf("attach segment %d: %w", o.id, readable(err)))
			}
		}
		return failed
	})
	if err != nil {
		return err
	}
	init, err := procfs.Open(int(d.Hand))
	if err != nil {
		return err
	}
	defer init.Close()
	maps, err := init.Maps()
	if err != nil {
		return err
	}
	keys := shownKeys(all, maps, addr)
	for i, o := range all {
		err := dumpSegment(d, ns, init, mapAt(maps, addr[i]), o, keys[i])
		if err == nil {
			err = dumpPids(d, ns, image.SysVPids_SEGMENT, o, pids[i])
		}
		if err != nil {
			return fmt.Errorf("segment %d: %w", o.id, err)
		}
	}
	return nil
}

func detach(d *kind.Dump, addr []uint64) error {
	var steps []tracee.Step
	return d.Inside(func(s *tracee.Script) error {
		for _, a := range addr {
			if a != 0 {
				steps = append(steps, s.Try(unix.SYS_SHMDT, a))
			}
		}
		return nil
	}, func(s *tracee.Script) error {
		for _, at := range steps {
			if _, err := s.Result(at); err != nil {
				return fmt.Errorf("detach a segment: %w", err)
			}
		}
		return nil
	})
}

func mapAt(maps []procfs.Map, start uint64) *procfs.Map {
	for i := range maps {
		if maps[i].Start == start {
			return &maps[i]
		}
	}
	return nil
}

// shownKeys are the keys under which to make the segments again, 0 for none. One
// that is removed has none any more, but mappings go on to show the one it was
// made with (ipc/shm.c, newseg); it gets that if no other has it.
func shownKeys(all []object, maps []procfs.Map, addr []uint64) []uint32 {
	keys, users := make([]uint32, len(all)), map[uint32]int{}
	for i, o := range all {
		keys[i] = o.desc().GetKey()
		if m := mapAt(maps, addr[i]); m != nil && o.desc().GetMode()&kernel.ShmModeDest != 0 {
			if k, err := strconv.ParseUint(strings.TrimPrefix(m.Path, "/SYSV"), 16, 32); err == nil {
				keys[i] = uint32(k)
			}
		}
		users[keys[i]]++
	}
	for i, o := range all {
		if users[keys[i]] > 1 && o.desc().GetMode()&kernel.ShmModeDest != 0 {
			keys[i] = 0
		}
	}
	return keys
}

func dumpSegment(d *kind.Dump, ns string, init *procfs.Proc, m *procfs.Map, o object, key uint32) error {
	if m == nil {
		return errors.New("ckpt's bare child has attached it, and its maps do not show it")
	}
	e := &ipc_shm.IpcShmEntry{Desc: o.desc(), Size: proto.Uint64(o.word(shmSegsz)), InPagemaps: proto.Bool(true)}
	e.Desc.Key = proto.Uint32(key)
	if m.Has("ht") {
		e.HugetlbFlag = proto.Uint32(shmHugetlb | uint32(bits.TrailingZeros64(m.PageSize))<<hugeShift)
	}
	if err := d.Out.Add(image.IPCShm, ns, e); err != nil {
		return err
	}
	out, err := d.Out.Pages("shmem-" + strconv.Itoa(o.id))
	if err != nil {
		return err
	}
	c := copier{pid: int(d.Hand), start: m.Start, out: out, buf: make([]byte, copyChunk)}
	file, err := init.OpenMap(m, unix.O_RDONLY)
	if err != nil {
		// Without rights in the first user namespace: every page is looked
		// at, and zeros left out, at the price of memory for the holes.
		return cmp.Or(c.copySparse(m.Len()), out.Close())
	}
	defer file.Close()
	return cmp.Or(c.copyExtents(file, m.Len()), out.Close())
}

// restoreShm makes the segments, and notes those to be removed again.
func (m *maker) restoreShm(r *kind.Restore, ns string) error {
	return image.Each(r.In, image.IPCShm, ns, func(e *ipc_shm.IpcShmEntry, _ func(int) ([]byte, error)) error {
		id := e.GetDesc().GetId()
		pids := m.pidsOf(r, image.SysVPids_SEGMENT, id, 2)
		err := restoreSegment(r, e, pids[0])
		if err == nil {
			err = leaveTo(r, pids[1], e)
		}
		if err != nil {
			return fmt.Errorf("segment %d: %w", id, err)
		}
		if e.GetDesc().GetMode()&kernel.ShmModeDest != 0 {
			m.remove = append(m.remove, int(id))
		}
		return nil
	})
}

// restoreSegment makes it; maker is the process that did, 0 for ckpt.
func restoreSegment(r *kind.Restore, e *ipc_shm.IpcShmEntry, maker pidns.VPID) (err error) {
	desc := e.GetDesc()
	flags := e.GetHugetlbFlag()
	if flags&^(shmHugetlb|hugeSizeMask<<hugeShift) != 0 {
		return failure.Damagedf("its flags of huge pages are %#x", flags)
	}
	if !e.GetInPagemaps() {
		return failure.Unsupportedf("its contents stand in %s, as CRIU wrote them before 3.0", image.IPCShm.Name("N"))
	}
	if e.GetSize() == 0 || e.GetSize() > 1<<47 {
		return failure.Damagedf("its size is %d bytes", e.GetSize())
	}
	err = segments().make(r, maker, desc, []uintptr{uintptr(desc.GetKey()), uintptr(e.GetSize())}, flags, nil)
	size := e.GetSize()
	if flags&shmHugetlb != 0 {
		huge := uint64(1) << (flags >> hugeShift & hugeSizeMask)
		size = (size + huge - 1) &^ (huge - 1)
		if errors.Is(err, unix.ENOMEM) {
			err = failure.WithHint(err, fmt.Sprintf("reserve more huge pages: echo NUMBER > /sys/kernel/mm/hugepages/hugepages-%dkB/nr_hugepages", huge>>10))
		}
	}
	if err != nil {
		return err
	}
	mem, err := kernel.ShmAttach(int(desc.GetId()), size)
	if err != nil {
		return fmt.Errorf("attach it: %w", err)
	}
	err = fillRuns(r.In, desc.GetId(), mem)
	if err = errors.Join(err, kernel.ShmDetach(mem)); err != nil {
		return err
	}
	if desc.GetMode()&kernel.ShmModeLock != 0 {
		if _, err := kernel.Shmctl(int(desc.GetId()), kernel.ShmLock, nil); err != nil {
			return fmt.Errorf("lock it (SHM_LOCK): %w", err)
		}
	}
	return nil
}

// fillRuns reads the contents of a segment from its pages file.
func fillRuns(in *image.Reader, id uint32, mem []byte) error {
	pages, err := image.PageRuns(in, "shmem-"+strconv.FormatUint(uint64(id), 10))
	if err != nil {
		return err
	}
	defer pages.Close()
	for _, run := range pages.Runs {
		end := run.End()
		if end > uint64(len(mem)) {
			return failure.Damagedf("it has contents up to %#x, behind its end at %#x", end, len(mem))
		}
		if err := run.Read(run.Vaddr, mem[run.Vaddr:end]); err != nil {
			return err
		}
	}
	return nil
}
