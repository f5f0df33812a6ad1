package image

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/pagemap"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
)

func TestPagesRoundTrip(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "img")
	w := create(t, dir)
	p, err := w.Pages("2")
	check(t, err)
	fill(t, p, 0x10000, 2, 'a')
	fill(t, p, 0x12000, 1, 'b') // joins the run in front of it
	if off := p.Run(0x20000, 4, PEParent); off != -1 {
		t.Errorf("pages of the parent got offset %d", off)
	}
	fill(t, p, 0x30000, 1, 'c')
	q, err := w.Pages("shmem-7")
	check(t, err)
	fill(t, q, 0, 1, 'd') // addresses of shared memory begin at 0
	if _, err := w.Pages("2"); err == nil {
		t.Error("a second pagemap of the same name")
	}
	check(t, w.Commit(&Manifest{}))

	runs, f, err := PageRuns(open(t, dir), "2")
	check(t, err)
	defer f.Close()
	want := []Run{
		{Vaddr: 0x10000, Pages: 3, Offset: 0, Flags: PEPresent},
		{Vaddr: 0x20000, Pages: 4, Offset: -1, InParent: true, Flags: PEParent},
		{Vaddr: 0x30000, Pages: 1, Offset: 3 * PageSize, Flags: PEPresent},
	}
	if d := cmp.Diff(runs, want); d != "" {
		t.Error(d)
	}
	got := make([]byte, 4*PageSize)
	_, err = f.ReadAt(got, 0)
	check(t, err)
	page := func(c byte, n int) []byte { return bytes.Repeat([]byte{c}, n*PageSize) }
	if !bytes.Equal(got, bytes.Join([][]byte{page('a', 2), page('b', 1), page('c', 1)}, nil)) {
		t.Error("contents differ")
	}
	runs, f, err = PageRuns(open(t, dir), "77")
	if runs != nil || f != nil || err != nil {
		t.Errorf("no pagemap: %v %v %v", runs, f, err)
	}
}

func TestPagesMistakesAreReported(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(p *PagesWriter)
		want string
	}{
		{"unaligned", func(p *PagesWriter) { p.Run(0x10001, 1, PEParent) }, "does not begin a page"},
		{"order", func(p *PagesWriter) { p.Run(0x20000, 2, PEParent); p.Run(0x21000, 1, PEParent) }, "comes after"},
		{"empty", func(p *PagesWriter) { p.Run(0x20000, 0, PEParent) }, "0 pages"},
		{"beyond", func(p *PagesWriter) { p.Run(0x1000, math.MaxUint64/PageSize, PEParent) }, "pages from"},
		{"nowhere", func(p *PagesWriter) { p.Run(0x20000, 1, 0) }, "flags"},
		{"unwritten", func(p *PagesWriter) { p.Run(0x20000, 2, PEPresent) }, "pages-1.img has 0 bytes, its pagemap tells of 8192"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := create(t, filepath.Join(t.TempDir(), "img"))
			p, err := w.Pages("2")
			check(t, err)
			tt.do(p)
			if err := w.Commit(&Manifest{}); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

// Newer versions of CRIU leave field 2 at 0 and count in field 5.
func TestPageCountStandsInEitherField(t *testing.T) {
	field5 := func(old uint32, n uint64) *pagemap.PagemapEntry {
		e := &pagemap.PagemapEntry{Vaddr: proto.Uint64(0x1000), NrPages: proto.Uint32(old)}
		e.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 5, protowire.VarintType), n))
		return e
	}
	for _, tt := range []struct {
		name string
		e    *pagemap.PagemapEntry
		want uint64
		bad  bool
	}{
		{"old", &pagemap.PagemapEntry{Vaddr: proto.Uint64(0x1000), NrPages: proto.Uint32(3)}, 3, false},
		{"new", field5(0, 1<<33), 1 << 33, false},
		{"both", field5(4, 4), 4, false},
		{"contradiction", field5(4, 5), 0, true},
		{"ours", Run{Pages: 9}.entry(), 9, false},
		{"ours, huge", Run{Pages: 1 << 40}.entry(), 1 << 40, false},
	} {
		n, err := pagesOf(tt.e)
		if n != tt.want && !tt.bad || tt.bad != errors.Is(err, failure.ErrDamaged) {
			t.Errorf("%s: %d, %v", tt.name, n, err)
		}
	}
	if e := (Run{Pages: 9}).entry(); e.GetNrPages() != 9 {
		t.Errorf("readers without field 5 see %d pages", e.GetNrPages())
	}
}

func TestPageRunsAreChecked(t *testing.T) {
	entry := func(vaddr uint64, pages uint32, flags uint32) *pagemap.PagemapEntry {
		return &pagemap.PagemapEntry{Vaddr: proto.Uint64(vaddr), NrPages: proto.Uint32(pages), Flags: proto.Uint32(flags)}
	}
	for _, tt := range []struct {
		name    string
		entries []*pagemap.PagemapEntry
		want    string
	}{
		{"fine", []*pagemap.PagemapEntry{entry(0x1000, 1, PEPresent), entry(0x2000, 1, PEPresent|PELazy)}, ""},
		{"unaligned", []*pagemap.PagemapEntry{entry(0x1001, 1, PEPresent)}, "does not begin a page"},
		{"overlap", []*pagemap.PagemapEntry{entry(0x1000, 2, PEParent), entry(0x2000, 1, PEParent)}, "stands behind"},
		{"empty", []*pagemap.PagemapEntry{entry(0x1000, 0, PEPresent)}, "0 pages"},
		{"kernel addresses", []*pagemap.PagemapEntry{entry(1<<63, 1, PEParent)}, "pages from"},
		{"wrap", []*pagemap.PagemapEntry{entry(1<<56-0x1000, 2, PEParent)}, "2 pages from"},
		{"short", []*pagemap.PagemapEntry{entry(0x1000, 3, PEPresent)}, "pages-1.img is cut off: 8.2 kB of 12.3 kB are left"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "img")
			w := create(t, dir)
			f, err := w.File("pages-1.img")
			check(t, err)
			_, err = f.Write(make([]byte, 2*PageSize))
			check(t, err)
			check(t, w.Add(Pagemap, "2", &pagemap.PagemapHead{PagesId: proto.Uint32(1)}))
			for _, e := range tt.entries {
				check(t, w.Add(Pagemap, "2", e))
			}
			check(t, w.Commit(&Manifest{}))
			_, pages, err := PageRuns(open(t, dir), "2")
			if pages != nil {
				_ = pages.Close()
			}
			if tt.want == "" && err != nil || tt.want != "" && (!errors.Is(err, failure.ErrDamaged) || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestPageRunsWithoutPagesFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "img")
	sample(t, dir)
	check(t, os.Remove(filepath.Join(dir, "ckpt.img")))
	check(t, os.Remove(filepath.Join(dir, "pages-1.img")))
	if _, _, err := PageRuns(open(t, dir), "2"); !errors.Is(err, failure.ErrDamaged) || !strings.Contains(err.Error(), "pages-1.img is missing") {
		t.Errorf("error %v", err)
	}
}
