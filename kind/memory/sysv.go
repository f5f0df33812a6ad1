package memory

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/ipc-shm"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/vma"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
)

// attachment is one shmat(2) of a program, of which it may have unmapped parts
// since, moved them, or protected them otherwise.
type attachment struct {
	id, base uint64 // base: where the segment's first byte is, or would be
	parts    []*vma.VmaEntry
}

// attachments are those of an address space, in the order of their parts. Parts
// of one have the same distance from the segment's beginning: by that shmdt(2)
// finds them.
func attachments(own []*vma.VmaEntry) (all []*attachment) {
	for _, v := range own {
		if v.GetStatus()&sysvIPC == 0 {
			continue
		}
		id, base := v.GetShmid(), v.GetStart()-v.GetPgoff()
		i := slices.IndexFunc(all, func(a *attachment) bool { return a.id == id && a.base == base })
		if i < 0 {
			i, all = len(all), append(all, &attachment{id: id, base: base})
		}
		all[i].parts = append(all[i].parts, v)
	}
	return all
}

// attachAll maps the System V segments.
func (b *space) attachAll() error {
	for _, a := range attachments(b.own()) {
		if err := b.attach(a); err != nil {
			return err
		}
	}
	return nil
}

// attach maps one segment. shmat(2) maps all of it, where it may be in the way
// of others: so that happens at a place that is free, and the parts are moved to
// theirs.
func (b *space) attach(a *attachment) error {
	size, align, err := b.segmentSize(a.id)
	if err != nil {
		return err
	}
	flags, whole := uint64(unix.SHM_RDONLY), a.base
	for _, v := range a.parts {
		if v.GetPgoff()+v.GetEnd()-v.GetStart() > size {
			return failure.Damagedf("mapping %#x-%#x is larger than its System V segment %d", v.GetStart(), v.GetEnd(), a.id)
		}
		if mayWrite(v) {
			flags &^= unix.SHM_RDONLY
		}
		if v.GetProt()&unix.PROT_EXEC != 0 {
			flags |= shmExec
		}
	}
	moved := !a.whole(size)
	if moved {
		if whole, err = b.free(size, align); err != nil {
			return err
		}
	}
	b.s.Note(b.s.Must(unix.SYS_SHMAT, a.id, whole, flags), fmt.Sprintf("attach System V segment %d", a.id))
	for _, v := range a.parts {
		length := v.GetEnd() - v.GetStart()
		if moved {
			b.s.Note(b.s.Must(unix.SYS_MREMAP, whole+v.GetPgoff(), length, length, moveHere, v.GetStart()), fmt.Sprintf("move a part of System V segment %d", a.id))
		}
		b.s.Note(b.s.Must(unix.SYS_MPROTECT, v.GetStart(), length, uint64(v.GetProt())), fmt.Sprintf("protect %#x", v.GetStart()))
	}
	if moved {
		b.s.Must(unix.SYS_MUNMAP, whole, size) // what the program has unmapped
	}
	return nil
}

// whole tells whether the parts make up all of a segment of this size.
func (a *attachment) whole(size uint64) bool {
	at := a.base
	for _, v := range a.parts {
		if v.GetStart() != at {
			return false
		}
		at = v.GetEnd()
	}
	return at == a.base+size
}

// mayWrite tells whether mprotect(2) may allow writing. CRIU, and ckpt before it
// noted that, tell only whether it is allowed.
func mayWrite(v *vma.VmaEntry) bool {
	return v.GetProt()&unix.PROT_WRITE != 0 || v.GetFdflags() == unix.O_RDWR
}

// free gives the lowest addresses, multiples of align, where size bytes have
// room, whatever is mapped by then.
func (b *space) free(size, align uint64) (uint64, error) {
	used := slices.Clone(b.r.Kept)
	for _, v := range b.t.MM.GetVmas() {
		used = append(used, kind.Range{Start: v.GetStart(), End: v.GetEnd()})
	}
	slices.SortFunc(used, func(x, y kind.Range) int { return cmp.Compare(x.Start, y.Start) })
	at := max(lowest, align)
	for _, u := range used {
		if u.Start >= at && u.Start-at >= size {
			break
		}
		at = max(at, (u.End+align-1)&^(align-1))
	}
	if at+size > taskSize {
		return 0, fmt.Errorf("no %d bytes of addresses are free", size)
	}
	return at, nil
}

const (
	shmExec = 0o100000 // SHM_EXEC of shmat(2)
	lowest  = 1 << 20  // above what vm.mmap_min_addr forbids
)

// segmentSize is the size of a System V segment in whole pages, and the size of
// these, from the image's list of them.
func (b *space) segmentSize(id uint64) (size, pages uint64, err error) {
	ns := strconv.Itoa(int(b.t.IDs.GetIpcNsId()))
	err = image.Each(b.r.In, image.IPCShm, ns, func(e *ipc_shm.IpcShmEntry, data func(int) ([]byte, error)) error {
		if uint64(e.GetDesc().GetId()) == id {
			pages = page
			if h := e.GetHugetlbFlag(); h != 0 {
				pages = 1 << (h >> unix.MAP_HUGE_SHIFT & unix.MAP_HUGE_MASK) // SHM_HUGE_SHIFT is the same
			}
			if pages < page {
				return failure.Damagedf("System V segment %d in pages of %d bytes", id, pages)
			}
			size = (e.GetSize() + pages - 1) &^ (pages - 1)
		}
		if e.GetInPagemaps() {
			return nil
		}
		_, err := data(int(e.GetSize()+3) &^ 3)
		return err
	})
	if err == nil && size == 0 {
		err = failure.Damagedf("System V segment %d is mapped and not in the image", id)
	}
	return size, pages, err
}
