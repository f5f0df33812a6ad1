package diff

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/inventory"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/rlimit"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
)

func TestChanges(t *testing.T) {
	a := facts{"fd 3": "pipe", "fd 3: flags": "1", "fd 10": "file", "fd 10: pos": "5", "fd 2": "file", "name": "x", "gone": "yes"}
	b := facts{"fd 10": "file", "fd 10: pos": "6", "fd 2": "tty", "fd 4": "pipe", "fd 4: flags": "0", "name": "x"}
	want := []Change{{"fd 2", "file", "tty"}, {"fd 3", "pipe", ""}, {"fd 4", "", "pipe"}, {"fd 10: pos", "5", "6"}, {"gone", "yes", ""}}
	if d := cmp.Diff(want, changes(a, b)); d != "" {
		t.Error(d)
	}
	if got := changes(a, a); len(got) != 0 {
		t.Errorf("the same: %v", got)
	}
}

// TestEveryField: what a message has is told, also in messages within, and what
// nobody asked for is not.
func TestEveryField(t *testing.T) {
	m := &criu_core.TaskCoreEntry{Comm: proto.String("x"), StopSigno: proto.Uint32(19), Flags: proto.Uint32(5),
		Rlimits: &criu_core.TaskRlimitsEntry{Rlimits: []*rlimit.RlimitEntry{{Cur: proto.Uint64(1), Max: proto.Uint64(2)}, {Cur: proto.Uint64(3), Max: proto.Uint64(4)}}}}
	f := facts{}
	f.message("thread 3: ", m, only("flags", "rlimits.rlimits.max"))
	want := facts{"thread 3: comm": "x", "thread 3: stop signo": "19", "thread 3: rlimits: rlimits 0: cur": "1", "thread 3: rlimits: rlimits 1: cur": "3"}
	if d := cmp.Diff(want, f); d != "" {
		t.Error(d)
	}
}

func TestBytesText(t *testing.T) {
	long := []byte(strings.Repeat("\x01", 40))
	sum := fmt.Sprintf("40 bytes with the sum %08x", crc32.ChecksumIEEE(long))
	for in, want := range map[string]string{"/run/x\x00": "/run/x", "\x03\x00": "0300", "": "", string(long): sum} {
		if got := bytesText([]byte(in)); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestMappingChanges(t *testing.T) {
	a := []mapping{{0x1000, 0x2000, "r--p x", 0}, {0x2000, 0x3000, "rw-p", 0}, {0x5000, 0x6000, "rw-p", 0}}
	b := []mapping{{0x1000, 0x2000, "r--p x", 0}, {0x2000, 0x4000, "rw-p", 0}, {0x8000, 0x9000, "rw-s", 1}}
	want := []Change{{"mapping", "0x2000-0x3000 rw-p", "0x2000-0x4000 rw-p"}, {"mapping", "", "0x8000-0x9000 rw-s"}, {"mapping", "0x5000-0x6000 rw-p", ""}}
	if d := cmp.Diff(want, mappingChanges(a, b)); d != "" {
		t.Error(d)
	}
}

// run is pages of one byte.
type run struct {
	addr, pages uint64
	c           byte
}

// contentsOf makes an image of one address space.
func contentsOf(t *testing.T, runs ...run) *image.Contents {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "img")
	w, err := image.Create(dir, image.Options{})
	check(t, err)
	check(t, w.Add(image.Inventory, "", &inventory.InventoryEntry{ImgVersion: proto.Uint32(2)}))
	p, err := w.Pages("2")
	check(t, err)
	for _, r := range runs {
		check(t, p.Write(r.addr, bytes.Repeat([]byte{r.c}, int(r.pages)*image.PageSize)))
	}
	check(t, w.Commit(&image.Manifest{}))
	r, err := image.Open(dir)
	check(t, err)
	t.Cleanup(func() { _ = r.Close() })
	c, err := r.Contents("2")
	check(t, err)
	t.Cleanup(c.Close)
	return c
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestContents compares address spaces page by page, however the runs of the two
// lie, and cuts what differs at the borders of mappings.
func TestContents(t *testing.T) {
	const p = image.PageSize
	a := contentsOf(t, run{p, 1, 1}, run{2 * p, 600, 2}, run{1000 * p, 2, 3})
	b := contentsOf(t, run{p, 300, 1}, run{301 * p, 301, 2}, run{1001 * p, 3, 4})
	for _, tt := range []struct {
		both    [2]*image.Contents
		borders []uint64
		want    []string
	}{
		{[2]*image.Contents{a, a}, nil, nil},
		{[2]*image.Contents{a, b}, []uint64{100 * p}, []string{
			"1: 98 changed", "100: 201 changed", "1000: 1 removed", "1001: 1 changed", "1002: 2 added"}},
		{[2]*image.Contents{b, a}, []uint64{100 * p}, []string{
			"1: 98 changed", "100: 201 changed", "1000: 1 added", "1001: 1 changed", "1002: 2 removed"}},
	} {
		var got []string
		c := comparer{ctx: t.Context()}
		check(t, c.contents(tt.both, tt.borders, func(addr uint64, n Amount) {
			for _, k := range []struct {
				n    uint64
				what string
			}{{n.Changed, "changed"}, {n.Added, "added"}, {n.Removed, "removed"}} {
				if k.n > 0 {
					got = append(got, fmt.Sprintf("%d: %d %s", addr/p, k.n/p, k.what))
				}
			}
		}))
		if !slices.Equal(got, tt.want) {
			t.Errorf("%v, want %v", got, tt.want)
		}
	}
}

// TestRseq: the processor that a thread was on is no difference, what stands
// beside that is.
func TestRseq(t *testing.T) {
	const p = image.PageSize
	a, b := make([]byte, rseqSize+1), make([]byte, rseqSize+1)
	b[0], b[4], b[20], b[24] = 1, 1, 1, 1
	written(b, a)
	if !bytes.Equal(a, b) {
		t.Errorf("after a move to another processor: % x", b)
	}
	b[8], b[rseqSize] = 1, 1 // a critical section, and another variable
	written(b, a)
	if b[8] != 1 || b[rseqSize] != 1 {
		t.Errorf("more was passed over: % x", b)
	}
	c := comparer{ctx: t.Context(), rseq: []uint64{p + rseqSize}}
	n, err := c.changed([2]*image.Contents{contentsOf(t, run{p, 1, 1}), contentsOf(t, run{p, 1, 2})}, p, p)
	if n != p || err != nil {
		t.Errorf("%d bytes (%v)", n, err)
	}
}

// TestNoImage: an image without processes is damaged, not empty.
func TestNoImage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "img")
	w, err := image.Create(dir, image.Options{})
	check(t, err)
	check(t, w.Add(image.Inventory, "", &inventory.InventoryEntry{ImgVersion: proto.Uint32(2)}))
	check(t, w.Commit(&image.Manifest{}))
	r, err := image.Open(dir)
	check(t, err)
	defer r.Close()
	if _, err := Compare(t.Context(), r, r); !errors.Is(err, failure.ErrDamaged) {
		t.Errorf("%v", err)
	}
}
