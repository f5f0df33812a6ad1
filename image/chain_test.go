package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ckpt/failure"
)

// after makes an image with the pages of process 2, after another ("": none).
func after(t *testing.T, parent, dir, pages string) {
	t.Helper()
	var o Options
	if parent != "" {
		in, err := Open(parent)
		check(t, err)
		defer in.Close()
		o.Parent = in
	}
	w, err := Create(dir, o)
	check(t, err)
	write(t, w, "2", pages)
	check(t, w.Commit(&Manifest{}))
}

func TestOnlyWhatChangedIsWritten(t *testing.T) {
	tmp := t.TempDir()
	at := func(n int) string { return filepath.Join(tmp, fmt.Sprint("img", n)) }
	after(t, "", at(0), "a@10 b@11 c@12 d@13")
	after(t, at(0), at(1), "a@10 x@11 c@12 e@20")
	after(t, at(1), at(2), "a@10 x@11 c@12 d@13 e@20")
	for n, tt := range []struct {
		pages string
		own   int64
	}{{"a@10 b@11 c@12 d@13", 4}, {"a@10 x@11 c@12 e@20", 2}, {"a@10 x@11 c@12 d@13 e@20", 1}} {
		r := open(t, at(n))
		want(t, r, "2", tt.pages)
		check(t, r.Verify(t.Context()))
		if own := sizeOf(t, at(n), 1); own != tt.own {
			t.Errorf("image %d: %d pages are written, want %d", n, own, tt.own)
		}
	}
	if to, err := os.Readlink(filepath.Join(at(2), "parent")); to != "../img1" || err != nil {
		t.Errorf("the link leads to %q: %v", to, err)
	}
	// Together they can be moved.
	moved := filepath.Join(t.TempDir(), "moved")
	check(t, os.Rename(tmp, moved))
	want(t, open(t, filepath.Join(moved, "img2")), "2", "a@10 x@11 c@12 d@13 e@20")
}

// What two processes have in common, and have had in the parent, is looked for
// through the levels.
func TestLevelsBeforeTheParent(t *testing.T) {
	tmp := t.TempDir()
	first, second := filepath.Join(tmp, "a"), filepath.Join(tmp, "deep", "er")
	check(t, os.Mkdir(filepath.Dir(second), 0o700))
	w := create(t, first)
	write(t, w, "2", "a@10 b@11")
	write(t, w, "3", "a@10 b@11 c@12")
	check(t, w.Commit(&Manifest{}))
	w, err := Create(second, Options{Parent: open(t, first)})
	check(t, err)
	write(t, w, "2", "a@10 b@11 x@12")
	write(t, w, "3", "a@10 b@11 x@12 c@13")
	check(t, w.Commit(&Manifest{}))
	r := open(t, second)
	want(t, r, "2", "a@10 b@11 x@12")
	want(t, r, "3", "a@10 b@11 x@12 c@13")
	if got := runsOf(t, r, "3"); got != "0x10000+2@0 in the parent 0x12000+1@0 in another 0x13000+1@0" {
		t.Error(got)
	}
	if to, err := os.Readlink(filepath.Join(second, "same-1", "parent")); to != "../../../a" || err != nil {
		t.Errorf("the link leads to %q: %v", to, err)
	}
}

func TestBrokenChainIsNamed(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(t *testing.T, tmp string)
		want  string
	}{
		{"gone", func(t *testing.T, tmp string) { check(t, os.RemoveAll(filepath.Join(tmp, "a"))) }, "its parent ../a cannot be opened: no such file"},
		{"link gone", func(t *testing.T, tmp string) { check(t, os.Remove(filepath.Join(tmp, "b", "parent"))) }, "its parent ../a cannot be opened: no such file"},
		{"another", func(t *testing.T, tmp string) {
			check(t, os.RemoveAll(filepath.Join(tmp, "a")))
			after(t, "", filepath.Join(tmp, "a"), "z@10")
		}, "a is not the parent that it was made after"},
		{"no image", func(t *testing.T, tmp string) {
			check(t, os.RemoveAll(filepath.Join(tmp, "a")))
			check(t, os.Mkdir(filepath.Join(tmp, "a"), 0o700))
		}, "a: it holds no image"},
		{"damaged", func(t *testing.T, tmp string) { check(t, os.Truncate(filepath.Join(tmp, "a", "pages-1.img"), 1)) }, "a: pages-1.img is cut off"},
		{"itself", func(t *testing.T, tmp string) {
			check(t, os.Remove(filepath.Join(tmp, "b", "parent")))
			check(t, os.Symlink(".", filepath.Join(tmp, "b", "parent")))
		}, "is its own parent"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tmp := t.TempDir()
			after(t, "", filepath.Join(tmp, "a"), "a@10 b@11")
			after(t, filepath.Join(tmp, "a"), filepath.Join(tmp, "b"), "a@10 x@11")
			tt.spoil(t, tmp)
			_, err := Open(filepath.Join(tmp, "b"))
			if !errors.Is(err, failure.ErrDamaged) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

// A page that a pagemap says to be in the parent, which has none there.
func TestPageMissingInTheParent(t *testing.T) {
	tmp := t.TempDir()
	first, second := filepath.Join(tmp, "a"), filepath.Join(tmp, "b")
	after(t, "", first, "a@10")
	w, err := Create(second, Options{Parent: open(t, first)})
	check(t, err)
	check(t, w.addPagemap(Pagemap.Name("2"), 1, []span{{0x10000, 2, PEParent}}))
	check(t, w.Commit(&Manifest{}))
	if _, err := PageRuns(open(t, second), "2"); !errors.Is(err, failure.ErrDamaged) || !strings.Contains(err.Error(), "pagemap-2.img: the page at 0x11000 is said to be in the parent") {
		t.Errorf("error %v", err)
	}
}

// Images of criu's, which has no limit of its own.
func TestAVeryLongLine(t *testing.T) {
	tmp := t.TempDir()
	for n := range longestLine + 2 {
		dir := filepath.Join(tmp, fmt.Sprint(n))
		check(t, os.Mkdir(dir, 0o700))
		check(t, os.WriteFile(filepath.Join(dir, "inventory.img"), nil, 0o600))
		if n > 0 {
			check(t, os.Symlink(fmt.Sprint("../", n-1), filepath.Join(dir, "parent")))
		}
	}
	_, err := Open(filepath.Join(tmp, fmt.Sprint(longestLine+1)))
	if !errors.Is(err, failure.ErrDamaged) || !strings.Contains(err.Error(), "more than 256 images") {
		t.Errorf("error %v", err)
	}
	last := open(t, filepath.Join(tmp, fmt.Sprint(longestLine)))
	// Nothing is written that could not be read.
	w, err := Create(filepath.Join(tmp, "more"), Options{Parent: last})
	if !errors.Is(err, failure.ErrUsage) || !strings.Contains(err.Error(), "has 256 images before it") {
		t.Errorf("error %v, %v", err, w)
	}
	after(t, filepath.Join(tmp, fmt.Sprint(longestLine-1)), filepath.Join(tmp, "as many"), "a@10")
	check(t, open(t, filepath.Join(tmp, "as many")).Close())
}
