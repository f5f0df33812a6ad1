package memory

import (
	"errors"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/mm"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/vma"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
)

const huge = 2 << 20

func hugeMap(start, end uint64, flags uint32) *vma.VmaEntry {
	return &vma.VmaEntry{Start: proto.Uint64(start), End: proto.Uint64(end), Status: proto.Uint32(anonPrivate), Flags: proto.Uint32(flags)}
}

// Of what is not reserved, pages with contents count, each once.
func TestTouched(t *testing.T) {
	v := hugeMap(8*huge, 16*huge, unix.MAP_HUGETLB|unix.MAP_HUGE_2MB|unix.MAP_NORESERVE)
	if pageSize(v) != huge {
		t.Errorf("pages of %d bytes", pageSize(v))
	}
	for _, c := range []struct {
		runs []image.Run
		want uint64
	}{
		{nil, 0},
		{[]image.Run{{Vaddr: 8 * huge, Pages: 1}}, 1},
		{[]image.Run{{Vaddr: 9*huge + page, Pages: 1}, {Vaddr: 9*huge + 5*page, Pages: 1}}, 1},
		{[]image.Run{{Vaddr: 9*huge - page, Pages: 2}}, 2},
		{[]image.Run{{Vaddr: 7 * huge, Pages: 512}, {Vaddr: 15 * huge, Pages: 1024}}, 1}, // and beside it
		{[]image.Run{{Vaddr: 8 * huge, Pages: 8 * 512}}, 8},
	} {
		if n := touched(c.runs, kind.Range{Start: v.GetStart(), End: v.GetEnd()}, huge); n != c.want {
			t.Errorf("%+v: %d", c.runs, n)
		}
	}
}

func TestHugeOutOfPlace(t *testing.T) {
	for _, v := range []*vma.VmaEntry{
		hugeMap(page, huge, unix.MAP_HUGETLB|unix.MAP_HUGE_2MB),
		hugeMap(huge, huge+page, unix.MAP_HUGETLB|unix.MAP_HUGE_2MB),
		hugeMap(huge, 2*huge, unix.MAP_HUGETLB), // of no size
	} {
		b := &space{t: &kind.Target{MM: &mm.MmEntry{Vmas: []*vma.VmaEntry{v}}}}
		if err := b.checkHuge(); !errors.Is(err, failure.ErrDamaged) {
			t.Errorf("%v: %v", v, err)
		}
	}
}
