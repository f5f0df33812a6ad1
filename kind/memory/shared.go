package memory

import (
	"fmt"
	"slices"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/vma"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/tracee"
)

// maker is what one restore remembers from process to process.
type maker struct {
	shared kind.Range            // in init and, inherited, in every bare child
	at     map[uint64]kind.Range // shmid: where its object stands in shared
	// common is what processes have in common copy-on-write, estates what bare
	// children have of it for those born of them, by process.
	common  *inheritance
	estates map[pidns.VPID]*estate
}

// makeShared makes every shared anonymous object in init.
func (m *maker) makeShared(r *kind.Restore) error {
	size, lazy := map[uint64]uint64{}, map[uint64]uint64{}
	for _, t := range r.Targets {
		for _, v := range t.MM.GetVmas() {
			if isShared(v) {
				size[v.GetShmid()] = max(size[v.GetShmid()], v.GetPgoff()+v.GetEnd()-v.GetStart())
				lazy[v.GetShmid()] = uint64(v.GetFlags()) & unix.MAP_NORESERVE // mremap(2) passes it on
			}
		}
	}
	if len(size) == 0 {
		return nil
	}
	var ids []uint64
	total := uint64(0)
	for id, n := range size {
		ids = append(ids, id)
		total += n
	}
	slices.Sort(ids)
	var err error
	if m.shared, err = r.Reserve(total); err != nil {
		return err
	}
	at := m.shared.Start
	for _, id := range ids {
		m.at[id] = kind.Range{Start: at, End: at + size[id]}
		at += size[id]
	}
	if err := r.Inside(func(s *tracee.Script) error {
		for _, id := range ids {
			o := m.at[id]
			step := s.Must(unix.SYS_MMAP, o.Start, o.Len(), unix.PROT_READ|unix.PROT_WRITE,
				lazy[id]|unix.MAP_SHARED|unix.MAP_ANONYMOUS|unix.MAP_FIXED_NOREPLACE, ^uint64(0), 0)
			s.Note(step, fmt.Sprintf("shared memory %d", id))
		}
		return nil
	}, func(*tracee.Script) error { return nil }); err != nil {
		return err
	}
	for _, id := range ids {
		if err := m.fillShared(r, id); err != nil {
			return fmt.Errorf("shared memory %d: %w", id, err)
		}
	}
	return nil
}

// inheritsShared: every bare child has the shared anonymous objects from init.
func inheritsShared(t *kind.Target) bool {
	return slices.ContainsFunc(t.MM.GetVmas(), isShared)
}

func isShared(v *vma.VmaEntry) bool { return v.GetStatus()&(anonShared|sysvIPC) == anonShared }

func (m *maker) fillShared(r *kind.Restore, id uint64) error {
	runs, pages, err := image.PageRuns(r.In, fmt.Sprintf("shmem-%d", id))
	if err != nil {
		return err
	}
	defer pages.Close()
	init, _ := r.HostPID(1)
	buf := make([]byte, chunk)
	for _, run := range runs {
		if run.Vaddr+run.Pages*page > m.at[id].Len() {
			return failure.Damagedf("it has contents at %#x, behind its end at %#x", run.Vaddr, m.at[id].Len())
		}
		for done := uint64(0); done < run.Pages*page; {
			b := buf[:min(chunk, run.Pages*page-done)]
			if _, err := pages.ReadAt(b, run.Offset+int64(done)); err != nil {
				return fmt.Errorf("read its pages: %w", err)
			}
			if err := tracee.WriteMemory(int(init), m.at[id].Start+run.Vaddr+done, b); err != nil {
				return err
			}
			done += uint64(len(b))
		}
	}
	return nil
}

// dropShared takes the mapping of the objects away again from ckpt's init. One
// that is part of the image has dropped it as every process does.
func (m *maker) dropShared(r *kind.Restore) error {
	if m.shared.Len() == 0 || r.Manifest.GetNoInit() {
		return nil
	}
	return r.Inside(func(s *tracee.Script) error {
		s.Must(unix.SYS_MUNMAP, m.shared.Start, m.shared.Len())
		return nil
	}, func(*tracee.Script) error { return nil })
}
