package memory

import (
	"cmp"
	"fmt"
	"maps"
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
	objects := map[uint64]*shared{} // by shmid
	for _, t := range r.Targets {
		for _, v := range t.MM.GetVmas() {
			if !isShared(v) {
				continue
			}
			o := objects[v.GetShmid()]
			if o == nil {
				o = &shared{id: v.GetShmid()}
				objects[o.id] = o
			}
			o.size = max(o.size, v.GetPgoff()+v.GetEnd()-v.GetStart())
			o.page = pageSize(v)
			o.flags = uint64(v.GetFlags()) & (unix.MAP_NORESERVE | hugeMask) // mremap(2) passes it on
		}
	}
	if len(objects) == 0 {
		return nil
	}
	all := slices.SortedFunc(maps.Values(objects), func(a, b *shared) int { return cmp.Compare(a.id, b.id) })
	total := uint64(0)
	for _, o := range all {
		total += o.size + o.page
	}
	if err := checkShared(r, all); err != nil {
		return err
	}
	var err error
	if m.shared, err = r.Reserve(total); err != nil {
		return err
	}
	at := m.shared.Start
	for _, o := range all {
		at = (at + o.page - 1) &^ (o.page - 1)
		m.at[o.id] = kind.Range{Start: at, End: at + o.size}
		at += o.size
	}
	if err := r.Inside(func(s *tracee.Script) error {
		for _, o := range all {
			step := s.Must(unix.SYS_MMAP, m.at[o.id].Start, o.size, unix.PROT_READ|unix.PROT_WRITE,
				o.flags|unix.MAP_SHARED|unix.MAP_ANONYMOUS|unix.MAP_FIXED_NOREPLACE, ^uint64(0), 0)
			s.Note(step, fmt.Sprintf("shared memory %d", o.id))
		}
		return nil
	}, func(*tracee.Script) error { return nil }); err != nil {
		return err
	}
	for _, o := range all {
		if err := m.fillShared(r, o.id); err != nil {
			return fmt.Errorf("shared memory %d: %w", o.id, err)
		}
	}
	return nil
}

// shared is a shared anonymous object.
type shared struct {
	id, size, page uint64 // page: size of its pages, in bytes
	flags          uint64 // of mmap(2), beyond those that all have
}

// checkShared refuses more huge pages than are free, and sizes that are not of
// whole ones.
func checkShared(r *kind.Restore, all []*shared) error {
	need := map[uint64]uint64{}
	for _, o := range all {
		if o.page < page || o.size%o.page != 0 {
			return failure.Damagedf("shared memory %d of %d bytes in pages of %d", o.id, o.size, o.page)
		}
		switch {
		case o.page == page:
		case o.flags&unix.MAP_NORESERVE == 0:
			need[o.page] += o.size / o.page
		default:
			pages, err := image.PageRuns(r.In, pagesOf(o.id))
			if err != nil {
				return err
			}
			pages.Close()
			need[o.page] += touched(pages.Runs, kind.Range{End: o.size}, o.page)
		}
	}
	return enoughHuge(need)
}

// pagesOf is the id of the pagemap of a shared anonymous object.
func pagesOf(shmid uint64) string { return fmt.Sprintf("shmem-%d", shmid) }

// inheritsShared: every bare child has the shared anonymous objects from init.
func inheritsShared(t *kind.Target) bool {
	return slices.ContainsFunc(t.MM.GetVmas(), isShared)
}

func isShared(v *vma.VmaEntry) bool { return v.GetStatus()&(anonShared|sysvIPC) == anonShared }

func (m *maker) fillShared(r *kind.Restore, id uint64) error {
	pages, err := image.PageRuns(r.In, pagesOf(id))
	if err != nil {
		return err
	}
	defer pages.Close()
	init, _ := r.HostPID(1)
	buf := make([]byte, chunk)
	for _, run := range pages.Runs {
		if run.End() > m.at[id].Len() {
			return failure.Damagedf("it has contents at %#x, behind its end at %#x", run.Vaddr, m.at[id].Len())
		}
		for done := uint64(0); done < run.Pages*page; {
			b := buf[:min(chunk, run.Pages*page-done)]
			if err := run.Read(run.Vaddr+done, b); err != nil {
				return err
			}
			if err := tracee.WriteMemory(int(init), m.at[id].Start+run.Vaddr+done, b); err != nil {
				return err
			}
			done += uint64(len(b))
			r.Memory.Add(uint64(len(b)))
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
