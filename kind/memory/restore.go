package memory

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/vma"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/tracee"
)

// Values x/sys lacks (include/uapi/linux/mman.h, prctl.h).
const (
	mapDroppable   = 0x08 // 6.11
	mlockOnFault   = 1
	madvGuard      = 102 // MADV_GUARD_INSTALL, 6.13
	prSetVMA       = 0x53564d41
	prSetVMAName   = 0
	sysMseal       = 462          // 6.10
	fillBytes      = 64 << 20     // few calls, and still something to count
	fillVectors    = 1024         // IOV_MAX
	taskSize       = 1<<47 - page // x86-64 with page tables of four levels
	readWrite      = unix.PROT_READ | unix.PROT_WRITE
	moveHere       = unix.MREMAP_MAYMOVE | unix.MREMAP_FIXED
	noFD           = ^uint64(0)
	fixedNoReplace = unix.MAP_FIXED_NOREPLACE
)

// space rebuilds one address space.
type space struct {
	m     *maker
	r     *kind.Restore
	t     *kind.Target
	s     *tracee.Script
	extra map[uint64]*image.VMA
	runs  []image.Run
	kept  map[uint64]bool // mappings that the bare child has inherited, by their start
	areas []kind.Range    // what they are cut from, by address
}

// restore adds the whole rebuilding of an address space to Main.
func (m *maker) restore(r *kind.Restore, t *kind.Target) error {
	if !t.OwnsVM {
		return nil
	}
	b := &space{m: m, r: r, t: t, s: t.Main, extra: map[uint64]*image.VMA{}}
	for _, x := range t.Extra.GetVmas() {
		b.extra[x.GetStart()] = x
	}
	pages, err := image.PageRuns(r.In, strconv.Itoa(int(t.VPID)))
	if err != nil {
		return err
	}
	b.runs = leave(pages.Runs, b.kernels())
	t.Check = append(t.Check, func() error { pages.Close(); return nil })
	if err := b.checkLayout(); err != nil {
		return err
	}
	if err := errors.Join(b.checkHuge(), checkCount(len(t.MM.GetVmas()))); err != nil {
		return err
	}
	parts, err := b.parkVDSO()
	if err != nil {
		return err
	}
	if err := b.takeInherited(); err != nil {
		return err
	}
	b.clear()
	if err := b.takeKeys(); err != nil {
		return err
	}
	if err := b.attachAll(); err != nil {
		return err
	}
	if err := b.mapAll(); err != nil {
		return err
	}
	if err := b.fill(); err != nil {
		return err
	}
	for _, v := range b.own() {
		b.settle(v)
	}
	b.freeKeys()
	b.placeVDSO(parts)
	if err := b.restoreAIO(); err != nil {
		return err
	}
	if b.m.shared.Len() > 0 {
		b.s.Must(unix.SYS_MUNMAP, b.m.shared.Start, b.m.shared.Len())
	}
	if err := b.lockFuture(); err != nil {
		return err
	}
	return b.describe()
}

// own are the mappings that mmap(2) makes.
func (b *space) own() []*vma.VmaEntry {
	return slices.DeleteFunc(slices.Clone(b.t.MM.GetVmas()), func(v *vma.VmaEntry) bool {
		return v.GetStatus()&(vdso|vvar|vsyscall|aioRing) != 0
	})
}

// checkLayout refuses pages and guards that lie in no mapping before any of them
// is made.
func (b *space) checkLayout() error {
	if err := b.checkGuards(); err != nil {
		return err
	}
	own := b.own()
	for _, run := range b.runs {
		for at := run.Vaddr; at < run.Vaddr+run.Pages*page; {
			i := holding(own, at)
			if i < 0 {
				return failure.Damagedf("there are pages at %#x, where nothing is mapped", at)
			}
			at = own[i].GetEnd()
		}
	}
	return nil
}

// checkGuards refuses guard pages outside their mapping.
func (b *space) checkGuards() error {
	for _, v := range b.t.MM.GetVmas() {
		for _, g := range b.extra[v.GetStart()].GetGuards() {
			if g.GetStart() < v.GetStart() || g.GetEnd() > v.GetEnd() || g.GetEnd() <= g.GetStart() || (g.GetStart()|g.GetEnd())%page != 0 {
				return failure.Damagedf("guard pages %#x-%#x are out of place", g.GetStart(), g.GetEnd())
			}
		}
	}
	return nil
}

// holding is the index of the mapping that holds an address; -1: none.
func holding(own []*vma.VmaEntry, at uint64) int {
	i, found := slices.BinarySearchFunc(own, at, func(v *vma.VmaEntry, at uint64) int {
		switch {
		case v.GetEnd() <= at:
			return -1
		case v.GetStart() > at:
			return 1
		}
		return 0
	})
	if !found {
		return -1
	}
	return i
}

// clear unmaps all but what is kept, or inherited: what is to be cut from a larger
// mapping at last, when there is room for the pieces (vm.max_map_count).
func (b *space) clear() {
	b.unmap(kind.Range{End: taskSize}, slices.Concat(b.r.Kept, b.areas))
	var kept []kind.Range
	for _, v := range b.own() {
		if b.has(v) {
			kept = append(kept, rangeOf(v))
		}
	}
	for _, a := range b.areas {
		n := 0
		for n < len(kept) && kept[n].End <= a.End {
			n++
		}
		b.unmap(a, kept[:n])
		kept = kept[n:]
	}
}

// unmap unmaps all of r but what is kept of it.
func (b *space) unmap(r kind.Range, kept []kind.Range) {
	kept = append(slices.Clone(kept), kind.Range{Start: r.End, End: r.End})
	slices.SortFunc(kept, byStart)
	at := r.Start
	for _, k := range kept {
		if k.Start > at {
			b.s.Note(b.s.Must(unix.SYS_MUNMAP, at, k.Start-at), "clear the address space")
		}
		at = max(at, k.End)
	}
}

// mapAll makes the mappings, those of one file after another so that each is
// fetched once.
func (b *space) mapAll() error {
	own := b.own()
	slices.SortStableFunc(own, func(x, y *vma.VmaEntry) int { return int(int64(fileOf(x)) - int64(fileOf(y))) })
	file, fd := uint64(0), noFD
	drop := func() {
		if file != 0 {
			b.t.Drop(b.s, fd)
		}
	}
	for _, v := range own {
		if id := fileOf(v); id != file {
			drop()
			file, fd = id, noFD
			if id != 0 {
				f, err := b.r.File(uint32(id))
				if err != nil {
					return err
				}
				fd = b.t.Fetch(b.s, f)
			}
		}
		if err := b.mapOne(v, fd); err != nil {
			return err
		}
	}
	drop()
	return nil
}

// fileOf is the id of the file behind a mapping; 0: none.
func fileOf(v *vma.VmaEntry) uint64 {
	if v.GetStatus()&(filePrivate|fileShared) == 0 {
		return 0
	}
	return v.GetShmid()
}

func (b *space) mapOne(v *vma.VmaEntry, fd uint64) error {
	size := v.GetEnd() - v.GetStart()
	status := v.GetStatus()
	made := fmt.Sprintf("map %#x-%#x", v.GetStart(), v.GetEnd())
	switch {
	case status&sysvIPC != 0: // attachAll has made it
	case status&anonShared != 0:
		o, ok := b.m.at[v.GetShmid()]
		if !ok {
			return failure.Damagedf("shared memory %d is unknown", v.GetShmid())
		}
		// A size of zero duplicates a shared mapping (mremap(2)), but for one in
		// huge pages: of these a process has each part once, which is moved.
		old := uint64(0)
		if pageSize(v) != page {
			old = size
		}
		b.s.Note(b.s.Must(unix.SYS_MREMAP, o.Start+v.GetPgoff(), old, size, moveHere, v.GetStart()), made)
		if v.GetProt() != readWrite {
			b.s.Must(unix.SYS_MPROTECT, v.GetStart(), size, uint64(v.GetProt()))
		}
	case !b.has(v):
		flags := uint64(v.GetFlags()) & (unix.MAP_SHARED | unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_GROWSDOWN | unix.MAP_NORESERVE)
		offset := v.GetPgoff()
		if pageSize(v) != page {
			flags, offset = flags|uint64(v.GetFlags())&hugeMask, 0
		}
		if b.extra[v.GetStart()].GetDroppable() {
			flags = flags&^unix.MAP_PRIVATE | mapDroppable
		}
		b.s.Note(b.s.Must(unix.SYS_MMAP, v.GetStart(), size, b.protToFill(v), flags|fixedNoReplace, fd, offset), made)
	}
	b.advise(v)
	b.bind(v, b.extra[v.GetStart()])
	return nil
}

// protToFill is the protection while contents are being put in.
func (b *space) protToFill(v *vma.VmaEntry) uint64 {
	if b.has(v) {
		return readWrite
	}
	if b.hasPages(v) {
		return uint64(v.GetProt()) | readWrite
	}
	return uint64(v.GetProt())
}

func (b *space) hasPages(v *vma.VmaEntry) bool {
	i, _ := slices.BinarySearchFunc(b.runs, v.GetStart(), func(r image.Run, at uint64) int {
		if r.Vaddr+r.Pages*page <= at {
			return -1
		}
		return 1
	})
	return i < len(b.runs) && b.runs[i].Vaddr < v.GetEnd()
}

// fill reads the pages in.
func (b *space) fill() error {
	all, err := sources(b.runs, b.r.Memory)
	if err != nil {
		return err
	}
	var counted filling
	for _, from := range all {
		fd := b.t.Fetch(b.s, from.file)
		var read []func() error
		for len(from.runs) > 0 {
			step, total := from.next(b.s, fd)
			read = append(read, func() error { return readAll(b.s, step, total) })
			if from.sent == nil {
				counted.add(step, total)
			}
		}
		b.t.Drop(b.s, fd)
		b.t.Check = append(b.t.Check, func() error {
			var err error
			for _, all := range read {
				err = cmp.Or(err, all())
			}
			return from.end(err)
		})
	}
	if lead := b.t.Threads[0].Traced; lead != nil && len(counted.steps) > 0 {
		b.r.Memory.Ahead(func() uint64 { return counted.done(b.s, lead.TID) })
		b.t.Check = append(b.t.Check, func() error {
			b.r.Memory.Ahead(nil)
			b.r.Memory.Add(counted.total())
			return nil
		})
	}
	return nil
}

// vector is the struct iovec of as many runs as one preadv(2) fills, total bytes:
// in one file only those whose contents follow each other. rest are the others.
func vector(runs []image.Run, inFile bool) (rest []image.Run, vec []byte, total uint64) {
	first := runs[0]
	for len(runs) > 0 && len(vec)/16 < fillVectors && total < fillBytes && (!inFile || runs[0].Offset == first.Offset+int64(total)) {
		run := runs[0]
		n := min(run.Pages*page, fillBytes-total)
		vec = binary.LittleEndian.AppendUint64(vec, run.Vaddr)
		vec = binary.LittleEndian.AppendUint64(vec, n)
		total += n
		runs = runs[1:]
		if n < run.Pages*page { // the rest of it next time
			runs = slices.Concat([]image.Run{run.Part(run.Vaddr+n, run.End())}, runs)
			break
		}
	}
	return runs, vec, total
}

// readAll tells whether a step of preadv(2) has read total bytes: else it has
// stopped where it could not write.
func readAll(s *tracee.Script, step tracee.Step, total uint64) error {
	if n, err := s.Result(step); err != nil || n != total {
		return fmt.Errorf("read pages of memory: %d bytes of %d: %w", n, total, cmp.Or(err, error(unix.EFAULT)))
	}
	return nil
}

// settle gives a filled mapping its protection, guard pages, lock, name and
// seal.
func (b *space) settle(v *vma.VmaEntry) {
	start, size := v.GetStart(), v.GetEnd()-v.GetStart()
	if v.GetStatus()&(anonShared|fileShared) == 0 && b.protToFill(v) != uint64(v.GetProt()) {
		b.s.Note(b.s.Must(unix.SYS_MPROTECT, start, size, uint64(v.GetProt())), fmt.Sprintf("protect %#x", start))
	}
	b.giveKey(v)
	x := b.extra[start]
	for _, g := range x.GetGuards() { // before the lock, which forbids them
		b.s.Note(b.s.Must(unix.SYS_MADVISE, g.GetStart(), g.GetEnd()-g.GetStart(), madvGuard), fmt.Sprintf("guard %#x", g.GetStart()))
	}
	if v.GetFlags()&unix.MAP_LOCKED != 0 && !x.GetDroppable() {
		step := b.s.Must(unix.SYS_MLOCK2, start, size, mlockOnFault)
		b.s.Note(step, fmt.Sprintf("lock %#x", start))
		b.s.Explain(step, func(errno unix.Errno) error {
			return notLocked(fmt.Sprintf("%d kB at %#x", size/1024, start), errno)
		})
		if !x.GetOnFault() {
			// All else is locked, though it fails where nothing can be read in:
			// in guard pages, without access, behind the end of a file.
			b.s.Try(unix.SYS_MLOCK2, start, size, 0)
		}
	}
	if x.GetName() != "" {
		b.s.Note(b.s.Must(unix.SYS_PRCTL, prSetVMA, prSetVMAName, start, size, b.s.Str(x.GetName())), "name a mapping")
	}
	b.seal(v)
}

// advise gives a mapping the advice of madvise(2) that the kernel keeps with it.
func (b *space) advise(v *vma.VmaEntry) {
	for _, a := range advice {
		if v.GetMadv()&(1<<a.advice) != 0 {
			b.s.Note(b.s.Must(unix.SYS_MADVISE, v.GetStart(), v.GetEnd()-v.GetStart(), uint64(a.advice)), fmt.Sprintf("advise %#x", v.GetStart()))
		}
	}
}

// seal forbids a mapping to change for good (mseal(2)).
func (b *space) seal(v *vma.VmaEntry) {
	if b.extra[v.GetStart()].GetSealed() {
		b.s.Note(b.s.Must(sysMseal, v.GetStart(), v.GetEnd()-v.GetStart(), 0), fmt.Sprintf("seal %#x", v.GetStart()))
	}
}
