package memory

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/mm"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/pstree"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/vma"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/tracee"
)

// pages makes a range of numbers of pages.
func pages(from, to uint64) kind.Range { return kind.Range{Start: from * page, End: to * page} }

// mappedAt is private anonymous memory, by numbers of pages.
func mappedAt(from, to uint64, flags uint32) *vma.VmaEntry {
	return &vma.VmaEntry{Start: proto.Uint64(from * page), End: proto.Uint64(to * page), Status: proto.Uint32(regular | anonPrivate),
		Flags: proto.Uint32(unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | flags)}
}

func process(v, parent pidns.VPID, inherited []kind.Range, maps ...*vma.VmaEntry) *kind.Target {
	t := &kind.Target{VPID: v, Entry: &pstree.PstreeEntry{Ppid: proto.Uint32(uint32(parent))}, IDs: &criu_core.TaskKobjIdsEntry{VmId: proto.Uint32(uint32(v))},
		MM: &mm.MmEntry{Vmas: maps}, Extra: &image.Task{}}
	for _, r := range inherited {
		t.Extra.Inherited = append(t.Extra.Inherited, &image.Range{Start: r.Start, End: r.End})
	}
	return t
}

func anyFile(uint64) bool { return true }

// A page belongs to the highest process that has it, through those between; the
// mapping from which all theirs are cut is made in the highest, too.
func TestInherit(t *testing.T) {
	in, err := inherit([]*kind.Target{
		process(1, 0, nil, mappedAt(10, 20, 0), mappedAt(30, 40, 0)),
		process(2, 1, []kind.Range{pages(12, 15)}, mappedAt(10, 25, 0), mappedAt(30, 40, unix.MAP_GROWSDOWN)),
		process(3, 2, []kind.Range{pages(13, 18), pages(31, 32)}, mappedAt(8, 16, 0), mappedAt(17, 20, 0), mappedAt(30, 40, unix.MAP_GROWSDOWN)),
		process(4, 1, []kind.Range{pages(32, 33)}, mappedAt(30, 35, unix.MAP_NORESERVE)),
	}, anyFile)
	if err != nil {
		t.Fatal(err)
	}
	want := []stretch{{pages(13, 15), 1}, {pages(15, 16), 2}, {pages(17, 18), 2}, {pages(31, 32), 2}}
	if got := in.pages[3]; !slices.Equal(got, want) {
		t.Errorf("pid 3 has %v", got)
	}
	if got := in.given[1]; !slices.Equal(got, []kind.Range{pages(12, 15)}) {
		t.Errorf("pid 1 gives %v", got)
	}
	if got := in.given[2]; !slices.Equal(got, []kind.Range{pages(15, 16), pages(17, 18), pages(31, 32)}) {
		t.Errorf("pid 2 gives %v", got)
	}
	if a := in.first[1]; len(a) != 1 || a[0].Range != pages(8, 25) || a[0].origin != (origin{}) {
		t.Errorf("made in pid 1: %v", a)
	}
	if a := in.first[2]; len(a) != 1 || a[0].Range != pages(30, 40) || a[0].origin != (origin{flags: unix.MAP_GROWSDOWN}) {
		t.Errorf("made in pid 2: %v", a)
	}
	first := in.first[1][0].area
	for v, starts := range map[pidns.VPID][]uint64{1: {10}, 2: {10}, 3: {8, 17}} {
		for _, at := range starts {
			if in.areas[v][at*page].whole() != first {
				t.Errorf("the mapping at page %d of pid %d is part of another", at, v)
			}
		}
	}
	if len(in.pages[4]) > 0 || in.areas[4] != nil {
		t.Error("mappings of other flags have something in common")
	}
}

// Where the parent's two mappings are one in a child, and one of them has come
// from above, all are cut from one.
func TestInheritUnited(t *testing.T) {
	in, err := inherit([]*kind.Target{
		process(1, 0, nil, mappedAt(10, 12, 0)),
		process(2, 1, []kind.Range{pages(10, 11)}, mappedAt(10, 12, 0), mappedAt(12, 20, 0)),
		process(3, 2, []kind.Range{pages(13, 14)}, mappedAt(11, 20, 0)),
		process(4, 2, []kind.Range{pages(10, 14)}, mappedAt(10, 20, 0)),
	}, anyFile)
	if err != nil {
		t.Fatal(err)
	}
	if len(in.first[2]) > 0 || len(in.first[1]) != 1 || in.first[1][0].Range != pages(10, 20) {
		t.Errorf("made in pid 1: %v, in pid 2: %v", in.first[1], in.first[2])
	}
}

// What overlaps in one process is cut from one mapping, where that can be: not
// where the flags differ.
func TestInheritOverlapping(t *testing.T) {
	in, err := inherit([]*kind.Target{
		process(1, 0, nil, mappedAt(10, 40, 0)),
		process(2, 1, []kind.Range{pages(10, 12)}, mappedAt(10, 20, 0), mappedAt(20, 30, 0), mappedAt(30, 35, unix.MAP_NORESERVE), mappedAt(35, 40, 0)),
		process(3, 2, []kind.Range{pages(25, 26), pages(30, 31)}, mappedAt(20, 30, 0), mappedAt(30, 35, unix.MAP_NORESERVE)),
	}, anyFile)
	if err != nil {
		t.Fatal(err)
	}
	if a := in.first[1]; len(a) != 1 || a[0].Range != pages(10, 40) {
		t.Errorf("made in pid 1: %v", a)
	}
	if a := in.first[2]; len(a) != 1 || a[0].Range != pages(30, 35) || a[0].flags != unix.MAP_NORESERVE {
		t.Errorf("made in pid 2: %v", a)
	}
	if in.areas[3][20*page].whole() != in.areas[1][10*page].whole() {
		t.Error("what overlaps is not made in one")
	}
}

// Of areas that overlap in a process and differ, the one of which others have most
// is made, and of the other what is left.
func TestInheritApart(t *testing.T) {
	advised := mappedAt(18, 40, 0)
	advised.Madv = proto.Uint64(1 << unix.MADV_NOHUGEPAGE)
	less := mappedAt(20, 40, 0)
	less.Madv = advised.Madv
	in, err := inherit([]*kind.Target{
		process(1, 0, nil, mappedAt(10, 18, 0), advised, mappedAt(50, 60, 0)),
		process(2, 1, []kind.Range{pages(10, 12), pages(20, 39)}, mappedAt(10, 20, 0), less),
		process(3, 1, []kind.Range{pages(50, 51)}, mappedAt(40, 60, 0)),
	}, anyFile)
	if err != nil {
		t.Fatal(err)
	}
	if got := ranges(in.first[1]); !slices.Equal(got, []kind.Range{pages(10, 18), pages(18, 40), pages(40, 60)}) {
		t.Errorf("made in pid 1: %v", got)
	}
}

// Pieces do not overlap, and cover what the areas do.
func TestApart(t *testing.T) {
	at := func(from, to, gives uint64) *area { return &area{Range: pages(from, to), gives: gives} }
	low, wide, small, same := at(1, 10, 5), at(3, 30, 2), at(5, 20, 9), at(40, 50, 1)
	got := apart([]*area{same, small, low, wide})
	want := []piece{{pages(1, 5), low}, {pages(5, 20), small}, {pages(20, 30), wide}, {pages(40, 50), same}}
	if !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	around := at(1, 30, 2)
	if got, want := apart([]*area{around, small}), []piece{{pages(1, 5), around}, {pages(5, 20), small}, {pages(20, 30), around}}; !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	if got, want := apart([]*area{small, at(6, 19, 3)}), []piece{{pages(5, 20), small}}; !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

// Of an area that makes room for another, the rest is left.
func TestDrop(t *testing.T) {
	one, other := &area{Range: pages(1, 10)}, &area{Range: pages(10, 20)}
	e := &estate{pieces: []piece{{one.Range, one}, {other.Range, other}}, pages: []stretch{{pages(2, 19), 1}}}
	var calls int
	run := func(build, check func(*tracee.Script) error) error { calls++; return build(tracee.NewScript(0)) }
	if err := e.drop(run, []piece{{pages(3, 4), nil}, {pages(6, 12), nil}, {pages(30, 40), nil}}); err != nil || calls != 1 {
		t.Fatal(err, calls)
	}
	if want := []piece{{pages(1, 3), one}, {pages(4, 6), one}, {pages(12, 20), other}}; !slices.Equal(e.pieces, want) {
		t.Errorf("%v are left", e.pieces)
	}
	if want := []stretch{{pages(2, 3), 1}, {pages(4, 6), 1}, {pages(12, 19), 1}}; !slices.Equal(e.pages, want) {
		t.Errorf("pages %v are left", e.pages)
	}
}

// Of a file, the same of it must stand at the same address; and it must be there.
func TestInheritFile(t *testing.T) {
	of := func(from, to, offset, file uint64) *vma.VmaEntry {
		v := mappedAt(from, to, 0)
		v.Status, v.Pgoff, v.Shmid = proto.Uint32(regular|filePrivate), proto.Uint64(offset*page), proto.Uint64(file)
		return v
	}
	in, err := inherit([]*kind.Target{
		process(1, 0, nil, of(10, 20, 0, 7), of(30, 40, 0, 7), of(50, 60, 0, 8), of(70, 80, 0, 7)),
		process(2, 1, []kind.Range{pages(12, 15), pages(32, 33), pages(52, 53), pages(72, 73)}, of(12, 22, 2, 7), of(30, 40, 1, 7), of(50, 60, 0, 8), mappedAt(70, 80, 0)),
	}, func(file uint64) bool { return file == 7 })
	if err != nil {
		t.Fatal(err)
	}
	if a := in.first[1]; len(a) != 1 || a[0].Range != pages(10, 22) || a[0].file != 7 || a[0].Start+a[0].delta != 0 {
		t.Errorf("made in pid 1: %v", a)
	}
	if got := in.given[1]; !slices.Equal(got, []kind.Range{pages(12, 15)}) {
		t.Errorf("pid 1 gives %v", got)
	}
}

// Processes that share an address space inherit nothing by fork(2).
func TestInheritShared(t *testing.T) {
	targets := []*kind.Target{
		process(1, 0, nil, mappedAt(10, 12, 0)),
		process(2, 1, []kind.Range{pages(10, 11)}, mappedAt(10, 12, 0)),
		process(3, 2, nil),
	}
	targets[2].IDs.VmId = targets[1].IDs.VmId
	in, err := inherit(targets, anyFile)
	if err != nil || len(in.first) > 0 {
		t.Errorf("%v, %v", in.first, err)
	}
}

func TestInheritDamaged(t *testing.T) {
	for _, bad := range [][]kind.Range{
		{pages(3, 3)}, {pages(4, 3)}, {pages(3, 5), pages(4, 6)}, {{Start: 1, End: page}}, {pages(1, 1<<40)},
	} {
		if _, err := inherit([]*kind.Target{process(1, 0, bad)}, anyFile); !errors.Is(err, failure.ErrDamaged) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

func TestRanges(t *testing.T) {
	of := []stretch{{pages(1, 5), 1}, {pages(7, 9), 2}}
	if got := without(of, []kind.Range{pages(0, 2), pages(3, 4), pages(8, 20)}); !slices.Equal(got, []stretch{{pages(2, 3), 1}, {pages(4, 5), 1}, {pages(7, 8), 2}}) {
		t.Errorf("without: %v", got)
	}
	if got := split(pages(4, 10), of, 3); !slices.Equal(got, []stretch{{pages(4, 5), 1}, {pages(5, 7), 3}, {pages(7, 9), 2}, {pages(9, 10), 3}}) {
		t.Errorf("split: %v", got)
	}
	if got := common([]kind.Range{pages(1, 4), pages(6, 9)}, []kind.Range{pages(0, 2), pages(3, 7), pages(8, 20)}); !slices.Equal(got, []kind.Range{pages(1, 2), pages(3, 4), pages(6, 7), pages(8, 9)}) {
		t.Errorf("common: %v", got)
	}
	if got := merge([]kind.Range{pages(6, 9), pages(1, 4), pages(4, 5), pages(2, 3)}); !slices.Equal(got, []kind.Range{pages(1, 5), pages(6, 9)}) {
		t.Errorf("merge: %v", got)
	}
}

func TestRuns(t *testing.T) {
	runs := []image.Run{{Vaddr: 1 * page, Pages: 4, Offset: 0}, {Vaddr: 7 * page, Pages: 2, Offset: 4 * page}}
	got := pick(runs, []kind.Range{pages(0, 1), pages(2, 4), pages(4, 8), pages(20, 21)})
	if !slices.Equal(got, []image.Run{{Vaddr: 2 * page, Pages: 2, Offset: page}, {Vaddr: 4 * page, Pages: 1, Offset: 3 * page}, {Vaddr: 7 * page, Pages: 1, Offset: 4 * page}}) {
		t.Errorf("pick: %v", got)
	}
	if got := rangesOf(got); !slices.Equal(got, []kind.Range{pages(2, 5), pages(7, 8)}) {
		t.Errorf("ranges of what was picked: %v", got)
	}
	if got := leave(runs, []kind.Range{pages(2, 4), pages(7, 8)}); !slices.Equal(got, []image.Run{
		{Vaddr: 1 * page, Pages: 1, Offset: 0}, {Vaddr: 4 * page, Pages: 1, Offset: 3 * page}, {Vaddr: 8 * page, Pages: 1, Offset: 5 * page}}) {
		t.Errorf("leave: %v", got)
	}
}

// Processes with as many mappings as they may have, side by side, take no longer than
// to look at each.
func TestInheritManyMappings(t *testing.T) {
	const many = 60000
	var maps []*vma.VmaEntry
	for i := range uint64(many) {
		maps = append(maps, mappedAt(100+i, 101+i, 0))
	}
	began := time.Now()
	in, err := inherit([]*kind.Target{
		process(1, 0, nil, maps...),
		process(2, 1, []kind.Range{pages(100, 100+many)}, maps...),
		process(3, 2, []kind.Range{pages(100, 100+many)}, maps...),
	}, anyFile)
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	if len(in.first[1]) != many || len(in.pages[3]) != many {
		t.Errorf("%d areas, %d pages", len(in.first[1]), len(in.pages[3]))
	}
}
