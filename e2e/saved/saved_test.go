// Package saved is containers that are saved by themselves (ckpt start --every,
// --on-term).
package saved

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"ckpt/e2e/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// images are those in a directory, oldest first.
func images(t *testing.T, dir string) []string {
	t.Helper()
	out, err := filepath.Glob(filepath.Join(dir, "0*Z*"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(out, func(i string) bool { return strings.HasSuffix(i, ".partial") })
}

// numbers are theirs, with that of the parent: "3 4<3".
func numbers(t *testing.T, dir string) string {
	t.Helper()
	var out []string
	for _, i := range images(t, dir) {
		name := strings.TrimLeft(filepath.Base(i), "0")
		number, rest, _ := strings.Cut(name, "-")
		if _, after, ok := strings.Cut(rest, "-after-"); ok {
			number += "<" + strings.TrimLeft(after, "0")
		}
		out = append(out, number)
	}
	return strings.Join(out, " ")
}

// untilImage waits until the n-th image stands, or a later one, and is said to.
func untilImage(c *harness.Container, n int) harness.Saves {
	c.Env.T.Helper()
	var s harness.Saves
	harness.Eventually(c.Env.T, fmt.Sprintf("it is saved for the %d. time", n), func() error {
		ps := c.Ps()
		if ps.Saves == nil {
			return harness.Final{Err: fmt.Errorf("it is not saved by itself: %+v", ps)}
		}
		s = *ps.Saves
		if s.Last != nil && filepath.Base(s.Last.Image) >= fmt.Sprintf("%06d", n) {
			return nil
		}
		return errors.Join(fmt.Errorf("so far: %+v", s), c.Alive())
	})
	return s
}

// untilGone waits for the end of a process, which its parent may not have looked at yet.
func untilGone(t *testing.T, pid int) {
	t.Helper()
	harness.Eventually(t, "the saver ends", func() error {
		if state, err := harness.ThreadState(pid, pid); err == nil && state != 'Z' {
			return fmt.Errorf("host pid %d is %c", pid, state)
		}
		return nil
	})
}

// TestEvery: a container is saved again and again; so many images stay as are to be
// kept, with those they need; any of them is whole; and the newest goes on, and is saved.
func TestEvery(t *testing.T) {
	for _, user := range harness.Users() {
		t.Run("as "+user, func(t *testing.T) {
			e := harness.New(t, user)
			dir := e.Join("saves")
			s := e.Watch("train", []string{"--every", "1s", "--keep", "2", "--to", "saves"}, harness.Program(t, "changing.c"))
			untilImage(s.Container, 1)
			s.Look()
			saves := untilImage(s.Container, 4)
			if saves.To != dir || saves.Keep != 2 || saves.Every != 1e9 || saves.OnTerm != 0 {
				t.Errorf("%+v", saves)
			}
			s.Remove()
			untilGone(t, saves.Saver)
			if at := numbers(t, dir); at != "3 4<3" && at != "3 4<3 5" && at != "5 6<5" && at != "5 6<5 7" {
				t.Errorf("there are %s", at)
			}
			have := images(t, dir)
			if to, err := os.Readlink(filepath.Join(dir, "latest")); err != nil || to != filepath.Base(have[len(have)-1]) {
				t.Errorf("the latest is %s (%v), not of %v", to, err, have)
			}
			for _, i := range have {
				e.Run("verify", i)
			}
			e.Restore(dir, "", "--latest")
			s.Look()
			if again := untilImage(s.Container, 7); again.To != dir || again.Keep != 2 || again.Every != 1e9 {
				t.Errorf("after a restore: %+v", again)
			}
			s.Look()
		})
	}
}

// TestRefused: a dump that fails is told of, the images there are stay, and the next
// one is tried at its time.
func TestRefused(t *testing.T) {
	for _, user := range harness.Users() {
		t.Run("as "+user, func(t *testing.T) {
			e := harness.New(t, user)
			c := e.Start("job", []string{"--every", "1s", "--keep", "1", "--to", "saves"}, harness.Program(t, "refusing.py"))
			c.Says("ready")
			c.Kill("USR1")
			c.Says("cannot be saved")
			harness.Eventually(t, "a dump fails", func() error {
				if s := c.Ps().Saves; s == nil || s.Failed == nil || !strings.Contains(s.Failed.Reason, "dump pid 2 (refusing.py): fd ") {
					return fmt.Errorf("%+v", s)
				}
				return nil
			})
			if out := e.Run("ps", "job"); !strings.Contains(out, "\n  failed ") || !strings.Contains(out, "\n    -> ") {
				t.Errorf("it is not told:\n%s", out)
			}
			before := images(t, e.Join("saves"))
			for _, i := range before {
				e.Run("verify", i)
			}
			c.Kill("USR1")
			c.Says("can be saved")
			if s := untilImage(c, len(before)+1); s.Failed != nil {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestNotOurs: an image in which somebody has put something is not removed, which is told.
func TestNotOurs(t *testing.T) {
	e := harness.New(t, harness.Users()[0])
	c := e.Start("job", []string{"--every", "1s", "--keep", "1", "--to", "saves"}, harness.Program(t, "refusing.py"))
	first := untilImage(c, 1).Last.Image
	e.WriteFile(strings.TrimPrefix(filepath.Join(first, "notes"), e.Dir), "")
	var told string
	harness.Eventually(t, "it is told", func() error {
		if told = c.Ps().Saves.Last.Left; told == "" {
			return errors.New("nothing is left")
		}
		return c.Alive()
	})
	if !strings.Contains(told, "it holds notes, which is no file of an image") || !strings.Contains(e.Run("ps", "job"), "\n  something of earlier images is left: "+told) {
		t.Errorf("it is told: %s", told)
	}
	if _, err := os.Stat(filepath.Join(first, "notes")); err != nil {
		t.Error(err)
	}
}

// TestSaverKilled: the container goes on, it is told that it is not saved any more, what
// was being written is cleared away, and a restore goes on with the series.
func TestSaverKilled(t *testing.T) {
	e := harness.New(t, harness.Users()[0])
	c := e.Start("job", []string{"--every", "1s", "--to", "saves"}, harness.Program(t, "refusing.py"))
	c.Says("ready")
	saver := untilImage(c, 1).Saver
	if err := syscall.Kill(saver, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "it is not saved any more", func() error {
		if s := c.Ps().Saves; s.Saver != 0 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	if out := e.Run("ps", "job"); !strings.Contains(out, "not any more: the process of ckpt that did it was killed\n    -> ") {
		t.Errorf("it is not told:\n%s", out)
	}
	c.Kill("USR1")
	c.Says("cannot be saved")
	c.Kill("USR1")
	c.Says("can be saved")
	// A dump of the saver's may still be at it: that of a user waits for its turn.
	harness.Eventually(t, "it is saved", func() error {
		if r := e.Try("dump", "job", "mine"); r.Code != 0 {
			return errors.New(r.Err)
		}
		return nil
	})
	left := e.Join("saves", "000007-20260117T080500Z.partial")
	if err := os.Mkdir(left, 0o700); err != nil {
		t.Fatal(err)
	}
	e.Restore("mine", "")
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("what a dump has left is there: %v", err)
	}
	untilImage(c, 1+len(images(t, e.Join("saves"))))
}

// TestDamagedLatest: the newest image is damaged: that is said, and the one before is
// restored; the damaged one stays for who wants to look.
func TestDamagedLatest(t *testing.T) {
	e := harness.New(t, harness.Users()[0])
	c := e.Start("job", []string{"--every", "1s", "--keep", "1", "--to", "saves", "--compress"}, harness.Program(t, "refusing.py"))
	c.Says("ready")
	untilImage(c, 1)
	c.Remove()
	first := images(t, e.Join("saves"))
	last := first[len(first)-1]
	e.Restore(last, "", "--every", "0")
	e.Run("dump", "job", e.Join("saves", "000009-20260117T080500Z"))
	damaged := e.Join("saves", "000009-20260117T080500Z")
	files, err := filepath.Glob(filepath.Join(damaged, "pages-*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for i, spoil := range []func() error{
		func() error { return flip(files[0]) },
		func() error { return os.Truncate(filepath.Join(damaged, "ckpt.img"), 10) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		r := e.Try("restore", "--latest", "saves")
		if r.Code != 0 || !strings.Contains(r.Err, "the newest image is damaged, and the one before it is taken") || !strings.Contains(r.Err, "ckpt: error: ") {
			t.Errorf("damage %d: %v", i, r)
		}
		if _, err := os.Stat(damaged); err != nil {
			t.Error(err)
		}
		c.Kill("USR1")
		c.Says("cannot be saved")
		c.Remove()
		e.Own("job")
	}
	for _, i := range first {
		if err := os.Truncate(filepath.Join(i, "ckpt.img"), 10); err != nil {
			t.Fatal(err)
		}
	}
	if r := e.Try("restore", "--latest", "saves"); r.Code != 4 {
		t.Errorf("all are damaged: %v", r)
	}
}

// flip changes a bit in the middle of a file.
func flip(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	b[len(b)/2] ^= 1
	return os.WriteFile(path, b, 0o600)
}
