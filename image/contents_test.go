package image

import (
	"bytes"
	"errors"
	"path/filepath"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/inventory"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
)

// memory is an image of one address space: 1500 pages of 'a' from 0x10000 on, and
// one of c behind a hole.
func memory(t *testing.T, c byte) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "img")
	w := create(t, dir)
	check(t, w.Add(Inventory, "", &inventory.InventoryEntry{ImgVersion: proto.Uint32(2)}))
	p, err := w.Pages("2")
	check(t, err)
	fill(t, p, 0x10000, 1500, 'a')
	fill(t, p, 0x10000+1501*PageSize, 1, c)
	check(t, w.Commit(&Manifest{}))
	return dir
}

func contents(t *testing.T, dir string) *Contents {
	t.Helper()
	c, err := open(t, dir).Contents("2")
	check(t, err)
	t.Cleanup(c.Close)
	return c
}

func TestContents(t *testing.T) {
	c := contents(t, memory(t, 'b'))
	// From the page in front of the first run to the one behind the last.
	b := bytes.Repeat([]byte{'x'}, 1504*PageSize)
	if n, err := c.ReadAt(b, 0x10000-PageSize); n != len(b) || err != nil {
		t.Fatalf("%d bytes (%v)", n, err)
	}
	for _, tt := range []struct {
		page int
		want byte
	}{{0, 0}, {1, 'a'}, {1024, 'a'}, {1500, 'a'}, {1501, 0}, {1502, 'b'}, {1503, 0}} {
		if got := b[tt.page*PageSize:][:PageSize]; !bytes.Equal(got, bytes.Repeat([]byte{tt.want}, PageSize)) {
			t.Errorf("page %d begins with %q, want %q", tt.page, got[0], tt.want)
		}
	}
	none, err := open(t, memory(t, 'b')).Contents("77")
	check(t, err)
	if n, err := none.ReadAt(b[:10], 0x10000); n != 10 || err != nil || b[0] != 0 {
		t.Errorf("without a pagemap: %d bytes, %q (%v)", n, b[:10], err)
	}
	none.Close()
}

// TestContentsAreChecked: of a chunk that is damaged nothing is handed out, of
// others all.
func TestContentsAreChecked(t *testing.T) {
	dir := memory(t, 'b')
	flip(t, filepath.Join(dir, "pages-1.img"), chunk+5)
	c := contents(t, dir)
	b := make([]byte, PageSize)
	if _, err := c.ReadAt(b, 0x10000); err != nil {
		t.Errorf("the chunk in front: %v", err)
	}
	if _, err := c.ReadAt(b, 0x10000+chunk+PageSize); !errors.Is(err, failure.ErrDamaged) {
		t.Errorf("the damaged chunk: %v", err)
	}
}

// TestSame tells by the checksums alone.
func TestSame(t *testing.T) {
	a, b, other := contents(t, memory(t, 'b')), contents(t, memory(t, 'b')), contents(t, memory(t, 'c'))
	for _, tt := range []struct {
		what string
		o    *Contents
		addr uint64
		n    uint64
		want bool
	}{
		{"the same", b, 0x10000, 1500 * PageSize, true},
		{"the first chunk", other, 0x10000, chunk, true},
		{"a chunk that differs elsewhere", other, 0x10000 + chunk, PageSize, false},
		{"across a hole", b, 0x10000, 1502 * PageSize, false},
		{"a hole", b, 0x10000 + 1500*PageSize, PageSize, false},
	} {
		if got := a.Same(tt.o, tt.addr, tt.n); got != tt.want {
			t.Errorf("%s: %v", tt.what, got)
		}
	}
}
