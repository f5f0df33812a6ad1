package image

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// write adds pages as want names them.
func write(t *testing.T, w *Writer, id, pages string) {
	t.Helper()
	p, err := w.Pages(id)
	check(t, err)
	for _, s := range strings.Fields(pages) {
		var at uint64
		_, err := fmt.Sscanf(s[1:], "@%x", &at)
		check(t, err)
		check(t, p.Write(at*PageSize, bytes.Repeat([]byte{s[0]}, PageSize)))
	}
}

// sizeOf is the number of pages in a pages file.
func sizeOf(t *testing.T, dir string, num int) int64 {
	t.Helper()
	st, err := os.Stat(filepath.Join(dir, pagesName(uint32(num))))
	check(t, err)
	return st.Size() / PageSize
}

// Whatever two or three processes have in common stands there once, as far as
// CRIU's format allows; and what is read is what was written.
func TestSamePagesAreWrittenOnce(t *testing.T) {
	for _, tt := range []struct {
		name  string
		pages []string // of processes 2, 3, ...
		own   []int64  // pages written for each
	}{
		{"forked", []string{"a@10 b@11 c@12", "a@10 b@11 c@12"}, []int64{3, 0}},
		{"forked and changed since", []string{"a@10 b@11 c@12 d@13", "a@10 x@11 c@12 y@13"}, []int64{4, 2}},
		{"forked and unmapped since", []string{"a@10 b@11 c@20", "c@20"}, []int64{3, 0}},
		{"no room at address 0", []string{"a@10 b@11 c@12", "c@0 d@1"}, []int64{3, 2}},
		{"elsewhere", []string{"a@10 b@11", "z@5 a@80 b@81"}, []int64{2, 1}},
		{"the other way round", []string{"a@10 b@11", "b@80 a@90"}, []int64{2, 0}},
		{"of two", []string{"a@10 b@11", "a@10 x@12", "a@10 b@11 x@12 y@13"}, []int64{2, 1, 1}},
		{"of two, in turn", []string{"a@10 b@12", "x@11 y@13", "a@10 x@11 b@12 y@13"}, []int64{2, 2, 0}},
		{"of three", []string{"a@10", "b@10", "c@10", "c@5 b@6 a@7"}, []int64{1, 1, 1, 0}},
		{"the same twice", []string{"a@10 a@11", "a@10 a@11"}, []int64{2, 0}},
		{"as of one that has them from another", []string{"a@10", "a@10 b@11", "b@4 a@20"}, []int64{1, 1, 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "img")
			w := create(t, dir)
			for i, s := range tt.pages {
				write(t, w, fmt.Sprint(i+2), s)
			}
			check(t, w.Commit(&Manifest{}))
			r := open(t, dir)
			for i, s := range tt.pages {
				want(t, r, fmt.Sprint(i+2), s)
				if n := sizeOf(t, dir, i+1); n != tt.own[i] {
					t.Errorf("%d pages of process %d are written, want %d", n, i+2, tt.own[i])
				}
			}
			check(t, r.Verify(t.Context()))
		})
	}
}

// Processes of random pages, in address spaces with gaps, of few different contents.
func TestSamePagesAtRandom(t *testing.T) {
	for seed := range uint64(30) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		base := filepath.Join(t.TempDir(), fmt.Sprint("img", seed))
		var parent *Reader
		for generation := range 3 {
			dir := fmt.Sprint(base, ".", generation)
			w, err := Create(dir, Options{Parent: parent})
			check(t, err)
			all := map[string]string{}
			for pid := 2; pid < 8; pid++ {
				var pages []string
				at := uint64(rnd.IntN(3))
				for range rnd.IntN(20) {
					at += uint64(1 + rnd.IntN(2)*rnd.IntN(5))
					pages = append(pages, fmt.Sprintf("%c@%x", 'a'+rnd.IntN(1+int(seed%20)), at))
				}
				all[fmt.Sprint(pid)] = strings.Join(pages, " ")
				write(t, w, fmt.Sprint(pid), all[fmt.Sprint(pid)])
			}
			check(t, w.Commit(&Manifest{}))
			r := open(t, dir)
			for id, s := range all {
				want(t, r, id, s)
			}
			parent = r
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// More pages than can be noted: those behind a page that was found are, too.
func TestSamePagesBeyondTheTable(t *testing.T) {
	s := newSame(false)
	s.begun = true
	p := &PagesWriter{}
	page := make([]byte, PageSize)
	for i := range uint64(2 * mostSlots) {
		page[0], page[1], page[2] = byte(i), byte(i>>8), byte(i>>16)
		s.note(page, new(key), p, i)
	}
	if len(s.slots) > mostSlots || s.every == 0 || s.used == 0 {
		t.Errorf("%d slots, %d used, every %#x", len(s.slots), s.used, s.every)
	}
}

// What a killed dump has left is replaced, levels, too; what is somebody's is not.
func TestLevelsLeftBehind(t *testing.T) {
	for _, foreign := range []bool{false, true} {
		dir := filepath.Join(t.TempDir(), "img")
		left := filepath.Join(dir+".partial", "same-1")
		check(t, os.MkdirAll(left, 0o700))
		check(t, os.Symlink("same-1", filepath.Join(dir+".partial", "parent")))
		check(t, os.Symlink("../pages-1.img", filepath.Join(left, "pages-1.img")))
		check(t, os.WriteFile(filepath.Join(left, "pagemap-3.img.age"), nil, 0o600))
		if foreign {
			check(t, os.WriteFile(filepath.Join(left, "letters"), nil, 0o600))
		}
		w, err := Create(dir, Options{})
		if foreign {
			if err == nil || !strings.Contains(err.Error(), "it holds letters, which is no file of an image") || !exists(filepath.Join(left, "letters")) {
				t.Errorf("error %v", err)
			}
			continue
		}
		check(t, err)
		write(t, w, "2", "a@10")
		write(t, w, "3", "a@10")
		check(t, w.Commit(&Manifest{}))
		want(t, open(t, dir), "3", "a@10")
		if exists(dir + ".partial") {
			t.Error("the unfinished one is there still")
		}
	}
}

func TestLevelsAreAborted(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "img")
	w := create(t, dir)
	write(t, w, "2", "a@10")
	write(t, w, "3", "a@10")
	check(t, os.WriteFile(filepath.Join(dir+".partial", "ckpt.img"), nil, 0o600)) // so that it fails at last
	if err := w.Commit(&Manifest{}); err == nil {
		t.Error("it was finished")
	}
	check(t, w.Abort())
	if left := names(t, filepath.Dir(dir)); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
