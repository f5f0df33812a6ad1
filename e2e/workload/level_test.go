package workload

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"ckpt/e2e/harness"
)

// level is what must not grow from one generation to the next.
type level struct {
	processes, threads, fds, maps int
	imageFiles, stateFiles        int
	imageBytes                    int64
	supervisorFDs                 int
}

// measure looks at a container that has just been restored from image.
func measure(t *testing.T, c *harness.Container, image string) level {
	t.Helper()
	l := level{imageFiles: len(entries(t, image)), stateFiles: len(entries(t, filepath.Join(c.Env.State(), c.Name)))}
	for _, f := range entries(t, image) {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		l.imageBytes += info.Size()
	}
	inside := map[int]bool{}
	for _, p := range c.Ps().Processes {
		inside[p.PID] = true
		l.processes++
		l.threads += len(p.Threads)
		if p.State == "Z" {
			continue
		}
		l.fds += len(entries(t, fmt.Sprintf("/proc/%d/fd", p.PID)))
		l.maps += len(entries(t, fmt.Sprintf("/proc/%d/map_files", p.PID)))
	}
	for _, p := range c.Env.Processes() {
		if !inside[p.PID] {
			l.supervisorFDs += len(entries(t, fmt.Sprintf("/proc/%d/fd", p.PID)))
		}
	}
	return l
}

func entries(t *testing.T, dir string) []os.DirEntry {
	t.Helper()
	ents, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return ents
}

// TestLevel takes a busy family of processes through $CKPT_LEVEL generations in a
// row: nothing of it grows, neither inside, nor in the image, nor what ckpt keeps.
func TestLevel(t *testing.T) {
	n := 6
	if s := os.Getenv("CKPT_LEVEL"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	e := harness.New(t, "")
	c := e.Start("busy", nil, harness.Program(t, "family.c"), e.Mkdir("family"))
	j := new(harness.Journal)
	goesOn := func() {
		t.Helper()
		from := -1
		harness.Eventually(t, "it goes on", func() error {
			if err := j.Read(c.Log()); err != nil {
				return harness.Final{Err: err}
			}
			now := j.Last("main").N
			if from < 0 {
				from = now
			}
			if now < from+2 {
				return fmt.Errorf("it stands at step %d", now)
			}
			return nil
		})
	}
	goesOn()
	image := e.Join("image")
	var first level
	for g := range n {
		c.Dump(image)
		e.Restore(image, "")
		goesOn()
		now := measure(t, c, image)
		if err := os.RemoveAll(image); err != nil {
			t.Fatal(err)
		}
		if g == 0 {
			first = now
		}
		same := first
		same.imageBytes = now.imageBytes // stacks and heaps have their ways
		if now != same || now.imageBytes > first.imageBytes+first.imageBytes/10 {
			t.Fatalf("generation %d: %+v, the first: %+v", g, now, first)
		}
		if g == n-1 {
			t.Logf("%d generations: the first %+v, the last %+v", n, first, now)
		}
	}
}
