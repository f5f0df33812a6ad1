package harness

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// clean ends every container of the test and then looks for what ckpt left
// behind. What it finds is an error, and is removed all the same.
func (e *Env) clean() {
	for _, name := range e.names {
		// Code 5: a test ended it itself.
		if r := e.Try("rm", "-f", name); r.Code != 0 && r.Code != 5 {
			e.T.Errorf("clean up: %v", r)
		}
	}
	e.noProcess()
	if m := e.Mounts(); len(m) > 0 {
		e.T.Errorf("mounts left behind:\n%s", strings.Join(m, "\n"))
	}
	for _, p := range e.Partial() {
		e.T.Errorf("part of an image left behind: %s", p)
	}
	if ents, err := os.ReadDir(e.State()); err == nil {
		for _, ent := range ents {
			if ent.IsDir() {
				e.T.Errorf("left behind in the state directory: %s", ent.Name())
			}
		}
	}
	// Programs that were killed leave these, of which each begins with the test's name.
	shared, err := filepath.Glob("/dev/shm/*" + filepath.Base(e.Dir) + ".*")
	if err != nil {
		e.T.Error(err)
	}
	for _, path := range append(shared, e.Dir) {
		if err := os.RemoveAll(path); err != nil {
			e.T.Errorf("clean up: %v", err)
		}
	}
}

// noProcess gives a killed process a moment to be gone; what still runs then
// is told and ended.
func (e *Env) noProcess() {
	deadline := time.Now().Add(5 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		left := e.Processes()
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			for _, p := range left {
				e.T.Errorf("process left behind: %v", p)
				syscall.Kill(p.PID, syscall.SIGKILL)
			}
			return
		}
		<-tick.C
	}
}

// HostProcess is a process of the test as the host sees it.
type HostProcess struct {
	PID     int
	Command string
}

func (p HostProcess) String() string { return fmt.Sprintf("host pid %d: %s", p.PID, p.Command) }

// Processes finds every process that was started in e, by its environment:
// the containers', their supervisors, and any that ckpt forgot.
func (e *Env) Processes() []HostProcess {
	ents, err := os.ReadDir("/proc")
	if err != nil {
		e.T.Fatal(err)
	}
	want := []byte(mark + "=" + e.Dir + "\x00")
	var out []HostProcess
	for _, ent := range ents {
		pid, err := strconv.Atoi(ent.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		// A process that ends meanwhile cannot be read: it is not left.
		env, err := os.ReadFile(filepath.Join("/proc", ent.Name(), "environ"))
		if err != nil || !bytes.Contains(env, want) {
			continue
		}
		cmd, _ := os.ReadFile(filepath.Join("/proc", ent.Name(), "cmdline"))
		out = append(out, HostProcess{pid, string(bytes.ReplaceAll(bytes.TrimRight(cmd, "\x00"), []byte{0}, []byte{' '}))})
	}
	return out
}

// Mounts are the host's mounts in Dir; ckpt has no business there.
func (e *Env) Mounts() []string {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		e.T.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, e.Dir) {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return out
}

// Partial finds images that were begun and neither finished nor removed.
func (e *Env) Partial() []string {
	var out []string
	filepath.WalkDir(e.Dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".partial") {
			out = append(out, path)
		}
		return nil
	})
	return out
}

// ThreadState is the letter of a thread's state in proc_pid_stat(5).
func ThreadState(pid, tid int) (byte, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/stat", pid, tid))
	if err != nil {
		return '?', err
	}
	// The name before it may hold anything, parentheses too.
	i := bytes.LastIndexByte(b, ')')
	if i < 0 || i+2 >= len(b) {
		return '?', fmt.Errorf("stat of thread %d: %q", tid, b)
	}
	return b[i+2], nil
}
