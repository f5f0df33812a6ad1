// Package killed ends ckpt at every step that it takes, with SIGKILL and with
// SIGINT, and looks at what is left: of a dump a container that runs on as if
// nothing had been, and no image or a whole one; of a restore nothing, or all.
package killed

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/e2e/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// subjects hold what a dump changes for a moment, or a restore makes in places that
// outlive it: messages that can only be looked at by taking them, names of files and
// sockets, locks, segments.
var subjects = [][]string{
	{"sockets.c"},
	{"names.c"},
	{"ipc.c"},
	{"boundary/mqueue.c"},
	{"pty.c"},
	{"boundary/filelocks.c"},
}

// number is what an environment variable says, or n.
func number(t *testing.T, name string, n int) int {
	t.Helper()
	if s := os.Getenv(name); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// walk calls at with steps from 1 to most: $CKPT_STEPS of them, 0 all, chosen by
// $CKPT_SEED.
func walk(t *testing.T, most, sample int, at func(n int)) {
	t.Helper()
	many, seed := number(t, "CKPT_STEPS", sample), number(t, "CKPT_SEED", 1)
	ns := rand.New(rand.NewPCG(uint64(seed), 0)).Perm(most)
	if many > 0 {
		ns = ns[:min(many, most)]
	}
	slices.Sort(ns)
	t.Logf("%d of %d steps", len(ns), most)
	for _, n := range ns {
		at(n + 1)
	}
}

// interrupted tells whether a command has ended by SIGINT: 130, to a shell also where
// it came before ckpt had taken it into its own hands.
func interrupted(r harness.Stepped) bool { return r.Code == 130 || r.Code == -1 }

// footprint is what can be seen of a container's processes from outside: mappings,
// descriptors, who traces them, what signals they block.
func footprint(c *harness.Container) (string, error) {
	c.Env.T.Helper()
	var b strings.Builder
	for _, p := range c.Ps().Processes {
		dir := fmt.Sprintf("/proc/%d", p.PID)
		maps, err := os.ReadFile(filepath.Join(dir, "maps"))
		if err != nil {
			return "", err
		}
		fds, err := os.ReadDir(filepath.Join(dir, "fd"))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "pid %d\n%s", p.VPID, maps)
		for _, fd := range fds {
			to, err := os.Readlink(filepath.Join(dir, "fd", fd.Name()))
			if err != nil {
				return "", err
			}
			fmt.Fprintf(&b, "%s -> %s\n", fd.Name(), to)
		}
		for _, t := range p.Threads {
			status, err := os.ReadFile(filepath.Join(dir, "task", fmt.Sprint(t.TID), "status"))
			if err != nil {
				return "", err
			}
			for line := range strings.Lines(string(status)) {
				if name, _, _ := strings.Cut(line, ":"); slices.Contains([]string{"TracerPid", "SigBlk", "ShdPnd", "SigPnd"}, name) {
					b.WriteString(line)
				}
			}
		}
	}
	return b.String(), nil
}

// same waits until a container looks as it did: injected code finds its own way
// home, which takes it a moment.
func same(c *harness.Container, what, before string) {
	t := c.Env.T
	t.Helper()
	harness.Eventually(t, what+": it is as it was", func() error {
		now, err := footprint(c)
		if err == nil && now != before {
			err = fmt.Errorf("it was\n%s\nand is\n%s", before, now)
		}
		return err
	})
}

// TestDump: whenever a dump is killed or stopped, the program goes on, with
// everything as it was.
func TestDump(t *testing.T) {
	for _, s := range subjects {
		for _, sig := range []unix.Signal{unix.SIGKILL, unix.SIGINT} {
			t.Run(fmt.Sprintf("%s/%s", s[0], unix.SignalName(sig)), func(t *testing.T) {
				e := harness.New(t, "")
				c := e.Watch("subject", []string{"--net", "none"}, append([]string{harness.Program(t, s[0])}, s[1:]...)...)
				image := e.Join("image")
				remove := func() {
					if err := os.RemoveAll(image); err != nil {
						t.Fatal(err)
					}
				}
				steps := e.AtStep(0, sig, "dump", c.Name, image, "--leave-running").Steps
				remove()
				c.Look()
				before, err := footprint(c.Container)
				if err != nil {
					t.Fatal(err)
				}
				walk(t, steps, 5, func(n int) {
					what := fmt.Sprintf("%v at step %d", sig, n)
					r := e.AtStep(n, sig, "dump", c.Name, image, "--leave-running")
					same(c.Container, what, before)
					c.Look()
					_, err := os.Lstat(image)
					switch {
					case err == nil:
						e.Run("verify", image)
					case !errors.Is(err, fs.ErrNotExist):
						t.Fatal(err)
					case sig == unix.SIGINT && r.Hit && r.Code != 130:
						t.Errorf("%s: want exit code 130: %v", what, r)
					}
					for _, p := range e.Partial() {
						if sig != unix.SIGKILL {
							t.Errorf("%s left %s", what, p)
						}
						if r := e.Try("restore", p, "--name", "partial"); r.Code != 4 {
							t.Errorf("part of an image was restored: %v", r)
						}
					}
					remove()
				})
				c.Dump(image)
				if p := e.Partial(); len(p) > 0 {
					t.Errorf("left of killed dumps after the last one: %v", p)
				}
				e.Restore(image, "")
				c.Look()
			})
		}
	}
}

// files are all below a directory, but for those in skip and in images.
func files(t *testing.T, dir, skip string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if path == skip {
			return fs.SkipDir
		}
		if strings.HasSuffix(path, ".img") {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %v\n", path, info.Mode())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// looks has the program of a container that was just restored look at itself: its log
// is a new one, and so it counts from one.
func looks(c *harness.Container) {
	c.Env.T.Helper()
	c.Kill("USR1")
	c.Says("good 1")
}

// TestRestore: whenever a restore is killed or stopped, all of the container is
// there, or nothing: no process, mount, file or name.
func TestRestore(t *testing.T) {
	for _, s := range subjects {
		for _, sig := range []unix.Signal{unix.SIGKILL, unix.SIGINT} {
			t.Run(fmt.Sprintf("%s/%s", s[0], unix.SignalName(sig)), func(t *testing.T) {
				e := harness.New(t, "")
				c := e.Watch("subject", []string{"--net", "none"}, append([]string{harness.Program(t, s[0])}, s[1:]...)...)
				image := e.Join("image")
				whole := len(c.Ps().Processes)
				c.Dump(image)
				steps := e.AtStep(0, sig, "restore", image).Steps
				looks(c.Container)
				c.Dump(e.Join("again")) // which takes away again what has a name
				c.Remove()
				walk(t, steps, 5, func(n int) {
					what := fmt.Sprintf("%v at step %d", sig, n)
					before := files(t, e.Dir, e.State())
					r := e.AtStep(n, sig, "restore", image)
					there := false
					harness.Eventually(t, what+": nothing or all of it is there", func() error {
						left := e.Processes()
						there = len(left) > 0
						if !there {
							return nil
						}
						if r := e.Try("ps", c.Name); r.Code != 0 {
							return fmt.Errorf("processes: %v", left)
						}
						if ps := c.Ps(); len(ps.Processes) != whole || ps.State != "running" {
							return fmt.Errorf("it is %s, with %d processes of %d", ps.State, len(ps.Processes), whole)
						}
						return nil
					})
					if there {
						if sig == unix.SIGINT && r.Code == 130 {
							t.Errorf("%s: it runs, and the exit code is 130", what)
						}
						looks(c.Container)
					} else if r.Code == 0 {
						t.Errorf("%s: nothing is there: %v", what, r)
					} else if sig == unix.SIGINT && r.Hit && !interrupted(r) {
						t.Errorf("%s: want exit code 130: %v", what, r)
					}
					if r := e.Try("rm", "-f", c.Name); r.Code != 0 && r.Code != 5 {
						t.Error(what, r)
					}
					harness.Eventually(t, what+": no process is left", func() error {
						if p := e.Processes(); len(p) > 0 {
							return fmt.Errorf("%v", p)
						}
						return nil
					})
					if _, err := os.Lstat(filepath.Join(e.State(), c.Name)); !errors.Is(err, fs.ErrNotExist) {
						t.Errorf("%s: its directory is left (%v)", what, err)
					}
					if now := files(t, e.Dir, e.State()); !there && now != before {
						t.Errorf("%s: there was\n%s\nthere is\n%s", what, before, now)
					}
				})
				e.Restore(image, "")
				looks(c.Container)
			})
		}
	}
}
