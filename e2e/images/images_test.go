// Package images is what stands in an image, and what a restore makes of it.
package images

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ckpt/e2e/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// amounts are those of `ckpt dump --json`, in bytes.
type amounts struct {
	Bytes     uint64 `json:"bytes"`
	Written   uint64 `json:"written"`
	Same      uint64 `json:"same"`
	Unchanged uint64 `json:"unchanged"`
	Stored    uint64 `json:"stored"`
}

func dump(s *harness.Subject, dir string, flags ...string) (a amounts) {
	s.Env.T.Helper()
	s.Env.JSON(&a, append([]string{"dump", s.Name, dir}, flags...)...)
	if a.Written+a.Same+a.Unchanged != a.Bytes {
		s.Env.T.Errorf("%+v do not add up", a)
	}
	if size := sizeOf(s.Env.T, dir, "pages-*.img"); size > 0 && size != a.Written {
		s.Env.T.Errorf("the pages files have %d bytes, %d are said to be written", size, a.Written)
	}
	if size := sizeOf(s.Env.T, dir, "*.img*") + sizeOf(s.Env.T, dir, "same-*/pagemap*"); size != a.Stored {
		s.Env.T.Errorf("the image has %d bytes, %d are said to be stored", size, a.Stored)
	}
	return a
}

// sizeOf adds up the files of some names, in bytes.
func sizeOf(t testing.TB, dir, names string) (sum uint64) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, names))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		st, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		sum += uint64(st.Size())
	}
	return sum
}

// memory is what changing.c holds in one process, in bytes.
const memory = 16 << 20

// TestSamePages: what six processes hold stands in an image once, whether they
// were forked or have filled their memory each by itself.
func TestSamePages(t *testing.T) {
	for _, user := range harness.Users() {
		t.Run("as "+user, func(t *testing.T) {
			e := harness.New(t, user)
			s := e.Watch("changing", nil, harness.Program(t, "changing.c"))
			a := dump(s, s.Image())
			if a.Bytes < 6*memory || a.Written > memory*5/4 {
				t.Errorf("%+v, of six times %d", a, memory)
			}
			e.Restore(e.Join("image1"), "")
			s.Look()
			s.Generation()
			s.Look()
		})
	}
}

// TestParent: a line of images, each with what has changed since the one before;
// any of them is brought back, and the line goes on from there.
func TestParent(t *testing.T) {
	for _, user := range harness.Users() {
		t.Run("as "+user, func(t *testing.T) {
			e := harness.New(t, user)
			s := e.Watch("changing", nil, harness.Program(t, "changing.c"))
			first := s.Image()
			dump(s, first, "--leave-running")
			last := first
			for range 3 {
				s.Look()
				next := s.Image()
				a := dump(s, next, "--leave-running", "--parent", last)
				// 40 pages of 4096 in each of six processes, and some of their own.
				if a.Written > 3<<20 || a.Unchanged < 5*memory {
					t.Errorf("%+v", a)
				}
				last = next
			}
			s.Look()
			s.Remove()
			e.Restore(last, "")
			back := &harness.Subject{Container: &harness.Container{Env: e, Name: "changing"}}
			back.Kill("USR1")
			back.Says("good 4")
			a := dump(back, e.Join("after"), "--parent", last)
			if a.Written > 3<<20 {
				t.Errorf("after a restore: %+v", a)
			}
			if out := e.Run("verify", e.Join("after")); !strings.Contains(out, "whole") {
				t.Errorf("verify: %s", out)
			}
			e.Restore(first, "")
			back.Kill("USR1")
			back.Says("good 1")
		})
	}
}

// TestBrokenLine: a restore of an image whose parent is not there, or another, says
// so, and nothing is left.
func TestBrokenLine(t *testing.T) {
	e := harness.New(t, harness.Users()[0])
	s := e.Watch("changing", nil, harness.Program(t, "changing.c"))
	dump(s, e.Join("a"), "--leave-running")
	dump(s, e.Join("b"), "--parent", e.Join("a"))
	if err := os.Rename(e.Join("a"), e.Join("moved")); err != nil {
		t.Fatal(err)
	}
	link := ""
	for _, command := range []string{"restore", "verify", "inspect", "check"} {
		r := e.Try(command, e.Join("b"))
		if r.Code != 4 || !strings.Contains(r.Err, "its parent ../a cannot be opened: no such file or directory") ||
			!strings.Contains(r.Err, "ckpt: hint: put that image back where it was, or let the link lead to it: ln -sfn PARENT "+e.Join("b")) {
			t.Errorf("%v", r)
		}
		_, link, _ = strings.Cut(strings.TrimSpace(r.Err), "ln -sfn PARENT ")
	}
	// What the hint says works.
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(e.Join("moved"), link); err != nil {
		t.Fatal(err)
	}
	e.Restore(e.Join("b"), "")
	s.Look()
	s.Remove()
	// Damage in the parent is damage.
	f, err := os.OpenFile(e.Join("moved/pages-2.img"), os.O_RDWR, 0) // the first process's
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("x"), 1<<20); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	r := e.Try("restore", e.Join("b"))
	if r.Code != 4 || !strings.Contains(r.Err, "parent image "+e.Join("moved")+": pages-2.img is damaged") {
		t.Errorf("%v", r)
	}
	var all []json.RawMessage
	if e.JSON(&all, "ps"); len(all) != 0 {
		t.Errorf("left: %s", all)
	}
}

// TestCompressed: a compressed image is much smaller, is brought back, and zstd
// unpacks it; levels and parents are as in a plain one.
func TestCompressed(t *testing.T) {
	for _, user := range harness.Users() {
		t.Run("as "+user, func(t *testing.T) {
			e := harness.New(t, user)
			s := e.Watch("changing", nil, harness.Program(t, "changing.c"))
			a := dump(s, e.Join("a"), "--leave-running", "--compress")
			if a.Written < memory || a.Written > memory*5/4 || a.Stored > a.Written/2 {
				t.Errorf("%+v", a)
			}
			unpacked := 0
			files, err := filepath.Glob(e.Join("a/pages-*.img.zst"))
			if err != nil || len(files) < 6 {
				t.Fatalf("%v (%v)", files, err)
			}
			for _, f := range files {
				out, err := e.Command(t.Context(), "zstd", "-dc", f).Output()
				if err != nil {
					t.Errorf("zstd -dc %s: %v", f, err)
				}
				unpacked += len(out)
			}
			if uint64(unpacked) != a.Written {
				t.Errorf("zstd unpacks %d bytes of %d", unpacked, a.Written)
			}
			s.Look()
			b := dump(s, e.Join("b"), "--parent", e.Join("a"), "--compress=best")
			if b.Unchanged < 5*memory {
				t.Errorf("%+v", b)
			}
			if out := e.Run("verify", e.Join("b")); !strings.Contains(out, "whole") {
				t.Errorf("verify: %s", out)
			}
			e.Restore(e.Join("b"), "")
			s.Look()
			// Plain again, after a compressed one.
			c := dump(s, e.Join("c"), "--parent", e.Join("b"))
			if c.Unchanged < 5*memory {
				t.Errorf("%+v", c)
			}
			e.Restore(e.Join("c"), "")
			s.Look()
		})
	}
}
