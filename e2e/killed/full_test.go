package killed

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/e2e/harness"
)

// disk is a file system in memory, of as many pages as are asked for.
type disk struct {
	t   *testing.T
	dir string
}

func newDisk(t *testing.T, e *harness.Env) *disk {
	t.Helper()
	d := &disk{t, e.Mkdir("disk")}
	if err := unix.Mount("none", d.dir, "tmpfs", 0, "size=4k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(d.dir, 0); err != nil {
			t.Error(err)
		}
	})
	return d
}

func (d *disk) remount(flags uintptr, pages int) {
	d.t.Helper()
	if err := unix.Mount("none", d.dir, "tmpfs", unix.MS_REMOUNT|flags, fmt.Sprintf("size=%d", pages*os.Getpagesize())); err != nil {
		d.t.Fatal(err)
	}
}

// empty checks that nothing is left on it.
func (d *disk) empty(what string) {
	d.t.Helper()
	ents, err := os.ReadDir(d.dir)
	if err != nil || len(ents) > 0 {
		d.t.Errorf("%s: left on the disk: %v (%v)", what, ents, err)
	}
}

// TestFull: wherever a disk is full, the program goes on, the disk is as empty as it
// was, and the message tells what to do. Its size grows page by page until the image
// fits.
func TestFull(t *testing.T) {
	if os.Geteuid() != 0 {
		return // only root may mount
	}
	e := harness.New(t, "")
	c := e.Watch("subject", []string{"--net", "none"}, harness.Program(t, "sockets.c"))
	d := newDisk(t, e)
	image := d.dir + "/image"
	before, err := footprint(c.Container)
	if err != nil {
		t.Fatal(err)
	}
	d.remount(0, 1<<20)
	c.Dump(image, "--leave-running")
	var st unix.Statfs_t
	if err := unix.Statfs(d.dir, &st); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(image); err != nil {
		t.Fatal(err)
	}
	// The pages that the image takes, and some: it is not the same each time.
	fits := int(st.Blocks-st.Bfree) * int(st.Bsize) / os.Getpagesize()
	walk(t, fits+fits/10, 20, func(pages int) {
		d.remount(0, pages)
		what := fmt.Sprintf("%d pages", pages)
		r := e.Try("dump", c.Name, image, "--leave-running")
		same(c.Container, what, before)
		c.Look()
		if _, err := os.Lstat(image); err == nil {
			if r.Code != 0 {
				t.Errorf("%s: there is an image: %v", what, r)
			}
			e.Run("verify", image)
			if err := os.RemoveAll(image); err != nil {
				t.Fatal(err)
			}
			return
		} else if !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if r.Code != 1 || !strings.Contains(r.Err, "no space left on device") || !strings.Contains(r.Err, "ckpt: hint: make room on the file system of "+image+"") {
			t.Errorf("%s: want exit code 1 and what to do: %v", what, r)
		}
		d.empty(what)
	})
	d.remount(unix.MS_RDONLY, 1<<20)
	r := e.Try("dump", c.Name, image, "--leave-running")
	if r.Code != 1 || !strings.Contains(r.Err, "read-only file system") {
		t.Errorf("on a read-only file system: %v", r)
	}
	d.remount(0, 1<<20)
	d.empty("on a read-only file system")
	same(c.Container, "on a read-only file system", before)
	c.Dump(image)
	e.Restore(image, "")
	c.Look()
}

// TestTakenAway: what is written vanishes under the dump. There is no image, or a
// whole one, and the program goes on.
func TestTakenAway(t *testing.T) {
	e := harness.New(t, "")
	c := e.Watch("subject", []string{"--net", "none"}, harness.Program(t, "sockets.c"))
	image := e.Join("image")
	steps := e.AtStep(0, unix.SIGKILL, "dump", c.Name, image, "--leave-running").Steps
	if err := os.RemoveAll(image); err != nil {
		t.Fatal(err)
	}
	before, err := footprint(c.Container)
	if err != nil {
		t.Fatal(err)
	}
	walk(t, steps, 12, func(n int) {
		what := fmt.Sprintf("taken away at step %d", n)
		r := e.BeforeStep(n, func(int, int) error { return os.RemoveAll(image + ".partial") }, "dump", c.Name, image, "--leave-running")
		same(c.Container, what, before)
		c.Look()
		if r.Code == 0 {
			e.Run("verify", image)
			if err := os.RemoveAll(image); err != nil {
				t.Fatal(err)
			}
		} else if r.Code != 1 || !strings.HasPrefix(r.Err, "ckpt: error: ") {
			t.Errorf("%s: %v", what, r)
		}
		for _, p := range append(e.Partial(), image) {
			if _, err := os.Lstat(p); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %s is there (%v): %v", what, p, err, r)
			}
		}
	})
}
