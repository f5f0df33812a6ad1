package killed

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/e2e/harness"
)

// faults are what disks fail with, and what a message of them says.
var faults = []struct {
	harness.Fault
	says string
}{
	{harness.Fault{Errno: unix.EIO}, "input/output error"},
	{harness.Fault{Errno: unix.EDQUOT}, "disk quota exceeded"},
	{harness.Fault{Errno: unix.EIO, Stays: true}, "input/output error"},
	{harness.Fault{Errno: unix.ENOSPC}, "no space left on device"},
}

// TestFailing: whichever system call fails by which a dump writes, to its image or to
// what ckpt remembers, the program goes on, there is no image, and the message says
// what has failed and what to do; or it did no harm, and the image is whole.
func TestFailing(t *testing.T) {
	for _, sort := range []string{"plain", "packed", "sealed", "changes", "all that"} {
		t.Run(sort, func(t *testing.T) {
			e := harness.New(t, "")
			c := e.Watch("subject", []string{"--net", "none"}, harness.Program(t, "ipc.c"))
			flags := sorts(t, e)[sort]
			c.Dump(e.Join("first"), "--leave-running")
			image := e.Join("image")
			disk := []string{e.State(), image, image + ".partial"}
			dump := append([]string{"dump", c.Name, image}, flags...)
			restore := func() {
				e.Run("verify", image, "--identity", "key")
				e.Restore(image, "", "--identity", "key")
				if err := os.RemoveAll(image); err != nil {
					t.Fatal(err)
				}
			}
			steps := e.FailAt(0, harness.Fault{Below: disk}, dump...).Steps
			restore()
			c.Look()
			walk(t, steps, 3, func(n int) {
				f := faults[(n+number(t, "CKPT_SEED", 1))%len(faults)]
				f.Below = disk
				before, err := footprint(c.Container)
				if err != nil {
					t.Fatal(err)
				}
				r := e.FailAt(n, f.Fault, dump...)
				what := fmt.Sprintf("%s at step %d, %s", f.says, n, r.What)
				if r.Code == 0 {
					restore()
					c.Look()
					return
				}
				if r.Code != 1 || !strings.Contains(r.Err, f.says) || !strings.Contains(r.Err, "ckpt: hint: ") {
					t.Errorf("%s: want exit code 1, the reason and what to do: %v", what, r)
				}
				if strings.Contains(r.Err, "is whole, but not all of") { // it could not be told whether it has ended
					restore()
					c.Look()
					return
				}
				same(c.Container, what, before)
				c.Look()
				there := existing(append(e.Partial(), image)...)
				if len(there) > 0 && !f.Stays && !strings.HasPrefix(r.What, "unlinkat ") {
					t.Errorf("%s: left: %v: %v", what, there, r)
				}
				for _, p := range there {
					if !strings.Contains(r.Err, "rm -r "+p) {
						t.Errorf("%s: that %s is there, and what to do, is not told: %v", what, p, r)
					}
					if filepath.Ext(p) != ".partial" {
						e.Run("verify", p, "--identity", "key")
					} else if r := e.Try("restore", p, "--name", "partial"); r.Code != 4 {
						t.Errorf("%s: part of an image was restored: %v", what, r)
					}
				}
				if err := os.RemoveAll(image); err != nil {
					t.Fatal(err)
				}
			})
			e.Run(dump...)
			restore()
			c.Look()
			if p := e.Partial(); len(p) > 0 {
				t.Errorf("left of failed dumps after the last one: %v", p)
			}
		})
	}
}

// existing are those of paths where there is something.
func existing(paths ...string) (there []string) {
	for _, p := range paths {
		if _, err := os.Lstat(p); err == nil {
			there = append(there, p)
		}
	}
	return there
}

// TestFailingStream: the same of a stream, until it is written kept in files
// without a name.
func TestFailingStream(t *testing.T) {
	e := harness.New(t, "")
	c := e.Watch("subject", []string{"--net", "none"}, harness.Program(t, "ipc.c"))
	spool := e.Mkdir("spool")
	e.Setenv("TMPDIR", spool)
	dump := []string{"dump", c.Name, "-", "--leave-running"}
	steps := e.FailAt(0, harness.Fault{Below: []string{spool}}, dump...).Steps
	before, err := footprint(c.Container)
	if err != nil {
		t.Fatal(err)
	}
	walk(t, steps, 4, func(n int) {
		f := faults[(n+number(t, "CKPT_SEED", 1))%len(faults)]
		f.Below = []string{spool}
		r := e.FailAt(n, f.Fault, dump...)
		what := fmt.Sprintf("%s at step %d, %s", f.says, n, r.What)
		same(c.Container, what, before)
		c.Look()
		if r.Code == 0 {
			e.Run("verify", e.WriteFile("stream", r.Out))
		} else if r.Code != 1 || !strings.Contains(r.Err, f.says) || !strings.Contains(r.Err, "ckpt: hint: ") {
			t.Errorf("%s: want exit code 1, the reason and what to do: %v", what, r.Err)
		}
		left, err := os.ReadDir(spool)
		if err != nil || len(left) > 0 {
			t.Errorf("%s left %v (%v)", what, left, err)
		}
	})
}
