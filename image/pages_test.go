package image

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/pagemap"
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
	fill(t, p, 0x30000, 1, 'c')
	q, err := w.Pages("shmem-7")
	check(t, err)
	fill(t, q, 0, 1, 'd') // addresses of shared memory begin at 0
	if _, err := w.Pages("2"); err == nil {
		t.Error("a second pagemap of the same name")
	}
	check(t, w.Commit(&Manifest{}))

	r := open(t, dir)
	want(t, r, "2", "a@10 a@11 b@12 c@30")
	want(t, r, "shmem-7", "d@0")
	want(t, r, "77", "")
	if got := runsOf(t, r, "2"); got != "0x10000+3@0 0x30000+1@12288" {
		t.Error(got)
	}
	if exists(filepath.Join(dir, "same-1")) || exists(filepath.Join(dir, "parent")) {
		t.Error("a level, though no pages are the same")
	}
}

// want compares the contents that an image has of a pagemap: the first byte of each
// page and, in hexadecimal, its number.
func want(t *testing.T, r *Reader, id, want string) {
	t.Helper()
	p, err := PageRuns(r, id)
	check(t, err)
	defer p.Close()
	var got []string
	for _, run := range p.Runs {
		b := make([]byte, run.Pages*PageSize)
		check(t, run.Read(run.Vaddr, b))
		for i := uint64(0); i < run.Pages; i++ {
			page := b[i*PageSize:][:PageSize]
			if !bytes.Equal(page, bytes.Repeat(page[:1], PageSize)) {
				t.Errorf("the page at %#x is of several bytes", run.Vaddr+i*PageSize)
			}
			got = append(got, fmt.Sprintf("%c@%x", page[0], run.Vaddr/PageSize+i))
		}
	}
	if s := strings.Join(got, " "); s != want {
		t.Errorf("pagemap of %s: %s, want %s", id, s, want)
	}
}

// runsOf shows where runs stand.
func runsOf(t *testing.T, r *Reader, id string) string {
	t.Helper()
	p, err := PageRuns(r, id)
	check(t, err)
	defer p.Close()
	var out []string
	for _, run := range p.Runs {
		out = append(out, fmt.Sprintf("%#x+%d@%d%s", run.Vaddr, run.Pages, run.Offset, []string{"", " in another", " in the parent"}[run.From]))
	}
	return strings.Join(out, " ")
}

func TestPagesMistakesAreReported(t *testing.T) {
	page := make([]byte, PageSize)
	for _, tt := range []struct {
		name string
		do   func(p *PagesWriter) error
		want string
	}{
		{"unaligned", func(p *PagesWriter) error { return p.Write(0x10001, page) }, "does not begin a page"},
		{"order", func(p *PagesWriter) error {
			return errors.Join(p.Write(0x20000, append(page, page...)), p.Write(0x21000, page))
		}, "comes after"},
		{"empty", func(p *PagesWriter) error { return p.Write(0x20000, nil) }, "0 pages"},
		{"part", func(p *PagesWriter) error { return p.Write(0x20000, make([]byte, PageSize+1)) }, "no whole pages"},
		{"beyond", func(p *PagesWriter) error { return p.Write(maxAddr, page) }, "pages from"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := create(t, filepath.Join(t.TempDir(), "img"))
			p, err := w.Pages("2")
			check(t, err)
			if err := tt.do(p); err == nil || !strings.Contains(err.Error(), tt.want) {
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
		{"ours", span{pages: 9}.entry(), 9, false},
		{"ours, huge", span{pages: 1 << 40}.entry(), 1 << 40, false},
	} {
		n, err := pagesOf(tt.e)
		if n != tt.want && !tt.bad || tt.bad != errors.Is(err, failure.ErrDamaged) {
			t.Errorf("%s: %d, %v", tt.name, n, err)
		}
	}
	if e := (span{pages: 9}).entry(); e.GetNrPages() != 9 {
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
		{"nowhere", []*pagemap.PagemapEntry{entry(0x1000, 1, PELazy)}, "neither here nor in a parent"},
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
			_, err = PageRuns(open(t, dir), "2")
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
	if _, err := PageRuns(open(t, dir), "2"); !errors.Is(err, failure.ErrDamaged) || !strings.Contains(err.Error(), "pages-1.img is missing") {
		t.Errorf("error %v", err)
	}
}
