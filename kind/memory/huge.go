package memory

import (
	"errors"
	"fmt"
	"math/bits"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/vma"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/procfs"
)

// hugeMask are the flags of mmap(2) that ask for huge pages, and of which size.
const hugeMask = unix.MAP_HUGETLB | unix.MAP_HUGE_MASK<<unix.MAP_HUGE_SHIFT

// hugeName is how hugetlbfs names memory without a file (MAP_ANONYMOUS).
const hugeName = "/anon_hugepage"

// isHuge: mmap(2) of MAP_PRIVATE|MAP_ANONYMOUS|MAP_HUGETLB shows as a deleted
// file of that name.
func isHuge(m *procfs.Map) bool { return !m.Shared && isHugeAnon(m) }

func isHugeAnon(m *procfs.Map) bool { return m.Deleted && m.Path == hugeName && m.Has("ht") }

// refuseHuge refuses memory in hugetlbfs that cannot be had as it was.
func refuseHuge(d *kind.Dump, m *procfs.Map) error {
	switch {
	case !m.Has("ht"), isHuge(m), isSysV(m), !m.Deleted:
		return nil
	case isHugeAnon(m):
		if holder(d, m) {
			return failure.WithHint(failure.Unsupportedf("shared memory in huge pages that a process has open as a file"), "let it close the descriptor before the dump")
		}
		return nil
	case !isMemfd(m):
		return failure.WithHint(failure.Unsupportedf("a deleted file of hugetlbfs"), "do not delete it before the program ends, or use memfd_create(2) with MFD_HUGETLB")
	case !d.Privileged && !holder(d, m):
		return failure.WithHint(failure.Unsupportedf("a memfd in huge pages that no process holds as a descriptor, to which nothing else leads but root's rights"),
			"dump as root", "let the program keep the descriptor open")
	}
	return nil
}

// holder tells whether a process has the file behind m as a descriptor.
func holder(d *kind.Dump, m *procfs.Map) bool {
	return slices.ContainsFunc(d.Procs, func(q *kind.Proc) bool {
		return slices.ContainsFunc(q.Fds, func(fd kind.Descriptor) bool { return isOf(m, fd.Desc) })
	})
}

func hugeFlags(m *procfs.Map) uint32 {
	if !m.Has("ht") {
		return 0
	}
	return unix.MAP_HUGETLB | uint32(bits.TrailingZeros64(m.PageSize))<<unix.MAP_HUGE_SHIFT
}

// pageSize is that of a mapping, in bytes.
func pageSize(v *vma.VmaEntry) uint64 {
	if v.GetFlags()&unix.MAP_HUGETLB == 0 || v.GetStatus()&(anonPrivate|anonShared) == 0 {
		return page
	}
	return 1 << (v.GetFlags() >> unix.MAP_HUGE_SHIFT & unix.MAP_HUGE_MASK)
}

// checkHuge refuses a process that needs more huge pages of its own than are
// free: for those of MAP_NORESERVE it would get SIGBUS.
func (b *space) checkHuge() error {
	need := map[uint64]uint64{} // number by size
	for _, v := range b.own() {
		size := pageSize(v)
		switch {
		case size == page:
		case size < page || v.GetStart()%size != 0 || v.GetEnd()%size != 0 || isShared(v) && v.GetPgoff()%size != 0:
			return failure.Damagedf("mapping %#x-%#x of pages of %d bytes is out of place", v.GetStart(), v.GetEnd(), size)
		case isShared(v): // makeShared
		case v.GetFlags()&unix.MAP_NORESERVE != 0:
			need[size] += touched(b.runs, kind.Range{Start: v.GetStart(), End: v.GetEnd()}, size)
		default:
			need[size] += (v.GetEnd() - v.GetStart()) / size
		}
	}
	return enoughHuge(need)
}

// enoughHuge refuses if fewer huge pages are free; need is their number by size.
func enoughHuge(need map[uint64]uint64) error {
	for size, n := range need {
		free, err := freeHuge(size)
		if err != nil {
			return err
		}
		if free < n {
			return failure.WithHint(failure.Unsupportedf("it needs %d huge pages of %d kB, and %d are free", n, size>>10, free),
				fmt.Sprintf("reserve more: echo NUMBER > %s/nr_hugepages", hugeDir(size)))
		}
	}
	return nil
}

// touched is the number of pages of a size, in a range, that have contents.
func touched(runs []image.Run, in kind.Range, size uint64) (n uint64) {
	next := in.Start
	for _, r := range runs {
		first, end := max(next, r.Vaddr&^(size-1)), min(in.End, (r.Vaddr+r.Pages*page+size-1)&^(size-1))
		if first < end {
			n += (end - first) / size
			next = end
		}
	}
	return n
}

func hugeDir(size uint64) string {
	return fmt.Sprintf("/sys/kernel/mm/hugepages/hugepages-%dkB", size>>10)
}

// freeHuge is how many huge pages of a size can be had, those included that the
// kernel may make on demand (Documentation/admin-guide/mm/hugetlbpage.rst).
func freeHuge(size uint64) (uint64, error) {
	n := map[string]uint64{}
	for _, name := range []string{"free_hugepages", "resv_hugepages", "nr_overcommit_hugepages", "surplus_hugepages"} {
		text, err := os.ReadFile(hugeDir(size) + "/" + name)
		if errors.Is(err, os.ErrNotExist) {
			return 0, nil // this processor or kernel has none of that size
		}
		if err == nil {
			n[name], err = strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
		}
		if err != nil {
			return 0, fmt.Errorf("read how many huge pages are free: %w", err)
		}
	}
	free := n["free_hugepages"] - min(n["free_hugepages"], n["resv_hugepages"])
	return free + n["nr_overcommit_hugepages"] - min(n["nr_overcommit_hugepages"], n["surplus_hugepages"]), nil
}
