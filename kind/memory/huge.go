package memory

import (
	"errors"
	"fmt"
	"math/bits"
	"os"
	"strconv"
	"strings"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/vma"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/procfs"
)

// hugeMask are the flags of mmap(2) that ask for huge pages, and of which size.
const hugeMask = unix.MAP_HUGETLB | unix.MAP_HUGE_MASK<<unix.MAP_HUGE_SHIFT

// isHuge: mmap(2) of MAP_PRIVATE|MAP_ANONYMOUS|MAP_HUGETLB shows as a deleted
// file of that name.
func isHuge(m *procfs.Map) bool {
	return !m.Shared && m.Deleted && m.Path == "/anon_hugepage" && m.Has("ht")
}

func hugeFlags(m *procfs.Map) uint32 {
	return unix.MAP_HUGETLB | uint32(bits.TrailingZeros64(m.PageSize))<<unix.MAP_HUGE_SHIFT
}

// pageSize is that of a mapping, in bytes.
func pageSize(v *vma.VmaEntry) uint64 {
	if v.GetFlags()&unix.MAP_HUGETLB == 0 || v.GetStatus()&anonPrivate == 0 {
		return page
	}
	return 1 << (v.GetFlags() >> unix.MAP_HUGE_SHIFT & unix.MAP_HUGE_MASK)
}

// checkHuge refuses a process that needs more huge pages than are free: for
// those of MAP_NORESERVE it would get SIGBUS.
func (b *space) checkHuge() error {
	need := map[uint64]uint64{} // number by size
	for _, v := range b.own() {
		size := pageSize(v)
		switch {
		case size == page:
		case size < page || v.GetStart()%size != 0 || v.GetEnd()%size != 0:
			return failure.Damagedf("mapping %#x-%#x of pages of %d bytes is out of place", v.GetStart(), v.GetEnd(), size)
		case v.GetFlags()&unix.MAP_NORESERVE != 0:
			need[size] += b.touched(v, size)
		default:
			need[size] += (v.GetEnd() - v.GetStart()) / size
		}
	}
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

// touched is the number of pages of v that have contents.
func (b *space) touched(v *vma.VmaEntry, size uint64) (n uint64) {
	next := v.GetStart()
	for _, r := range b.runs {
		first, end := max(next, r.Vaddr&^(size-1)), min(v.GetEnd(), (r.Vaddr+r.Pages*page+size-1)&^(size-1))
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
