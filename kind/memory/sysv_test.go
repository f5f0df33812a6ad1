package memory

import (
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/mm"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/vma"
	"google.golang.org/protobuf/proto"

	"ckpt/kind"
)

func part(id, start, pages, pgoff uint64) *vma.VmaEntry {
	return &vma.VmaEntry{Start: proto.Uint64(start * page), End: proto.Uint64((start + pages) * page), Pgoff: proto.Uint64(pgoff * page),
		Shmid: proto.Uint64(id), Status: proto.Uint32(regular | anonShared | sysvIPC)}
}

// TestAttachments: parts belong together by their distance from the beginning.
func TestAttachments(t *testing.T) {
	got := attachments([]*vma.VmaEntry{
		part(1, 100, 1, 0), part(1, 101, 2, 1), // protected otherwise
		part(2, 201, 1, 1), part(2, 203, 1, 3), // with holes
		part(1, 300, 3, 0), // attached again
		{Start: proto.Uint64(400 * page), End: proto.Uint64(401 * page), Status: proto.Uint32(regular | anonShared)},
	})
	want := []struct {
		id, base uint64
		parts    int
		whole    bool // of 3 pages
	}{{1, 100, 2, true}, {2, 200, 2, false}, {1, 300, 1, true}}
	if len(got) != len(want) {
		t.Fatalf("%d attachments, want %d", len(got), len(want))
	}
	for i, w := range want {
		if a := got[i]; a.id != w.id || a.base != w.base*page || len(a.parts) != w.parts || a.whole(3*page) != w.whole {
			t.Errorf("attachment %d: %+v, whole %v; want %+v", i, a, a.whole(3*page), w)
		}
	}
}

func TestFree(t *testing.T) {
	b := &space{r: &kind.Restore{Kept: []kind.Range{{Start: lowest + 3*page, End: lowest + 4*page}}}, t: &kind.Target{MM: &mm.MmEntry{Vmas: []*vma.VmaEntry{part(1, lowest/page+6, 1, 0)}}}}
	for pages, want := range map[uint64]uint64{3: 0, 2: 0, 4: 7, 1: 0} {
		if at, err := b.free(pages*page, page); err != nil || at != lowest+want*page {
			t.Errorf("%d pages: %#x, %v; want %#x", pages, at, err, lowest+want*page)
		}
	}
	if at, err := b.free(huge, huge); err != nil || at%huge != 0 {
		t.Errorf("room for a huge page at %#x, %v", at, err)
	}
	if _, err := b.free(taskSize, page); err == nil {
		t.Error("more than there is has room")
	}
}
