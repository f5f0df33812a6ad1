package image

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
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

// A copy whose links were followed, or lost, has all that the image has.
func TestCopiesWithoutLinks(t *testing.T) {
	for _, tt := range []struct {
		name   string
		copied func(from, to string) *exec.Cmd
		parent bool // has to be where it was
	}{
		{"followed", func(from, to string) *exec.Cmd { return exec.Command("cp", "-rL", from+"/child", to) }, false},
		{"left out", func(from, to string) *exec.Cmd {
			return exec.Command("sh", "-c", `cp -a "$1" "$2" && find "$2" -type l -delete`, "sh", from, to)
		}, true},
		{"as text", func(from, to string) *exec.Cmd {
			return exec.Command("sh", "-c", `cp -a "$1" "$2" && find "$2" -type l | while read -r l; do t=$(readlink "$l") && rm "$l" && printf %s "$t" >"$l"; done`, "sh", from, to)
		}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			from, to := filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "to")
			check(t, os.Mkdir(from, 0o700))
			after(t, "", filepath.Join(from, "parent"), "a@10 b@11 c@12")
			w, err := Create(filepath.Join(from, "child"), Options{Parent: open(t, filepath.Join(from, "parent"))})
			check(t, err)
			write(t, w, "2", "a@10 b@11 x@12")
			write(t, w, "3", "x@12 c@13")
			write(t, w, "4", "a@10 c@13 y@14")
			check(t, w.Commit(&Manifest{}))
			size := open(t, filepath.Join(from, "child")).Size()
			if out, err := tt.copied(from, to).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			check(t, os.RemoveAll(from))
			if tt.parent {
				to = filepath.Join(to, "child")
			}
			r := open(t, to)
			want(t, r, "2", "a@10 b@11 x@12")
			want(t, r, "3", "x@12 c@13")
			want(t, r, "4", "a@10 c@13 y@14")
			check(t, r.Verify(t.Context()))
			if r.levels() == 0 || r.Size() != size {
				t.Errorf("%d levels, %d bytes, want %d", r.levels(), r.Size(), size)
			}
			if !tt.parent {
				return
			}
			check(t, os.RemoveAll(filepath.Join(filepath.Dir(to), "parent")))
			if _, err := Open(to); !errors.Is(err, failure.ErrDamaged) || !strings.Contains(err.Error(), "its parent ../parent cannot be opened") {
				t.Errorf("without a parent: %v", err)
			}
		})
	}
}

func TestStreamWithLinksFollowed(t *testing.T) {
	dir, stream := filepath.Join(t.TempDir(), "img"), filepath.Join(t.TempDir(), "stream")
	w := create(t, dir)
	for i, s := range []string{"a@10", "a@10 b@11", "b@4 a@20"} {
		write(t, w, fmt.Sprint(i+2), s)
	}
	check(t, w.Commit(&Manifest{}))
	check(t, exec.Command("tar", "-h", "--hard-dereference", "-C", dir, "-cf", stream, ".").Run())
	r := open(t, stream)
	if want(t, r, "4", "b@4 a@20"); r.levels() < 2 || r.Size() != open(t, dir).Size() {
		t.Errorf("%d levels, %d bytes", r.levels(), r.Size())
	}
}

// Nothing else may stand beside what is of the image.
func TestStrangersInLevels(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "img")
	w := create(t, dir)
	write(t, w, "2", "a@10 b@11")
	write(t, w, "3", "a@10 b@11")
	check(t, w.Commit(&Manifest{}))
	for _, name := range []string{"same-1/pages-9.img", "same-1/core-2.img", "pages-9.img"} {
		check(t, os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600))
		if _, err := Open(dir); !errors.Is(err, failure.ErrDamaged) || !strings.Contains(err.Error(), name+" does not belong to the image") {
			t.Errorf("%s: %v", name, err)
		}
		check(t, os.Remove(filepath.Join(dir, name)))
	}
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
		{"and the link", func(t *testing.T, tmp string) {
			check(t, os.RemoveAll(filepath.Join(tmp, "a")))
			check(t, os.Remove(filepath.Join(tmp, "b", "parent")))
		}, "its parent ../a cannot be opened: no such file"},
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

// A parent that is removed while an image is in use is named.
func TestParentRemovedMeanwhile(t *testing.T) {
	tmp := t.TempDir()
	first, second := filepath.Join(tmp, "a"), filepath.Join(tmp, "b")
	after(t, "", first, "a@10 b@11")
	after(t, first, second, "a@10 x@11")
	r := open(t, second)
	check(t, os.RemoveAll(first))
	_, err := r.Contents("2")
	for _, err := range []error{err, r.Verify(t.Context())} {
		if !errors.Is(err, failure.ErrDamaged) || !strings.Contains(err.Error(), "parent image "+filepath.Join(second, "../a")+": pagemap-2.img was removed after the image had been opened") {
			t.Errorf("error %v", err)
		}
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
