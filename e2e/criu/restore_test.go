package criu

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/e2e/harness"
)

// revived is what criu restores. What it says goes where it went.
type revived struct {
	e       *harness.Env
	speaker harness.Speaker
	vpid    int // of its command
	cmd     *exec.Cmd
	log     string // criu's
}

// Log is what it has written, before and since.
func (r *revived) Log() string { return r.speaker.Log() }

// Before criu: what runs it in a pid namespace whose first process it is itself, so
// that the ids of all that are restored are free there; and on a network of its own.
var (
	newPids    = []string{"unshare", "--pid", "--fork", "--kill-child", "--mount-proc"}
	newNetwork = []string{"unshare", "--net", "sh", "-c", `ip link set lo up && exec "$@"`, "sh"}
)

// revive has criu restore an image, of which vpid is the command's.
func revive(e *harness.Env, speaker harness.Speaker, vpid int, before []string, image string, flags ...string) *revived {
	e.T.Helper()
	r := &revived{e: e, speaker: speaker, vpid: vpid, log: e.Join("criu.log")}
	args := slices.Concat(before, []string{harness.CRIU(e.T, "criu"), "restore", "-v4", "-D", image, "-W", e.Mkdir("criu"), "--log-file", r.log}, flags)
	r.cmd = e.Command(context.Background(), args[0], args[1:]...)
	if err := r.cmd.Start(); err != nil {
		e.T.Fatal(err)
	}
	e.T.Cleanup(func() {
		for _, pid := range harness.Below(r.cmd.Process.Pid) {
			unix.Kill(pid, unix.SIGKILL)
		}
		r.cmd.Wait()
	})
	return r
}

// Alive is nil as long as criu lives, which waits for what it has restored.
func (r *revived) Alive() error {
	if state, err := harness.ThreadState(r.cmd.Process.Pid, r.cmd.Process.Pid); err == nil && state != 'Z' {
		return nil
	}
	lines := slices.DeleteFunc(strings.Split(r.said(), "\n"), func(l string) bool { return !strings.Contains(l, "Error") })
	return harness.Final{Err: fmt.Errorf("it has ended, or was not restored: %s", strings.Join(lines, "\n"))}
}

// Kill signals the command, whose host pid is looked for among all that
// descends from unshare.
func (r *revived) Kill(sig syscall.Signal) {
	t := r.e.T
	t.Helper()
	var host int
	harness.Eventually(t, "criu restores it", func() error {
		for _, pid := range harness.Below(r.cmd.Process.Pid) {
			b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			for l := range strings.Lines(string(b)) {
				f := strings.Fields(l)
				if len(f) > 0 && f[0] == "NSpid:" && f[len(f)-1] == fmt.Sprint(r.vpid) && strings.Contains(r.said(), "Restore finished successfully.") {
					host = pid
					return nil
				}
			}
		}
		if err := r.Alive(); err != nil {
			return err
		}
		return fmt.Errorf("not yet")
	})
	if err := unix.Kill(host, sig); err != nil {
		t.Fatal(err)
	}
}

// said is criu's log so far.
func (r *revived) said() string {
	b, _ := os.ReadFile(r.log)
	return string(b)
}

// CRIU restores what ckpt has saved of programs that look at themselves
// (e2e/program/state.h), and they find all as it was.
func TestRestore(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		return // criu is root's
	}
	for _, p := range []struct {
		source string
		args   []string
		start  []string // flags of ckpt start
		flags  []string // flags of criu restore
		chain  bool     // the image has a parent image
		// unmapped: it has no vDSO.
		unmapped bool
	}{
		{source: "carried.c", args: []string{"."}},
		{source: "carried.c", args: []string{"."}, chain: true},
		{source: "carried.c", args: []string{"."}, start: []string{"--no-init"}},
		{source: "carried.c", args: []string{".", "connected"}, flags: []string{"--tcp-established"}},
		{source: "carried.c", args: []string{".", "connected"}, start: []string{"--net", "none"}, flags: []string{"--tcp-established"}},
		{source: "fields.c"},
		{source: "locks.c", flags: []string{"--file-locks"}},
		{source: "robust.c"},
		{source: "crowd.c"},
		{source: "handlers.c", args: []string{"catch"}},
		{source: "limits.c"},
		{source: "keys.c"},
		{source: "stopping.c"},
		{source: "cputime.c"},
		{source: "opened.c"},
		{source: "creds.c"},
		{source: "vdso.c", args: []string{"none"}, unmapped: true},
	} {
		name := strings.Join(slices.Concat([]string{p.source}, p.start, p.args), " ")
		if p.chain {
			name += " chain"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := harness.New(t, "")
			s := e.Watch("criu", p.start, append([]string{harness.Program(t, p.source)}, p.args...)...)
			vpid := s.Ps().Processes[0].VPID
			image := s.Image()
			if p.chain {
				s.Dump(image, "--leave-running")
				s.Look()
				image = s.Image()
				s.Dump(image, "--parent", e.Join("image1"))
			} else {
				s.Dump(image)
			}
			var before []string
			if slices.Contains(p.start, "none") {
				before = newNetwork
			}
			if vpid != 1 { // else criu makes the pid namespace
				before = slices.Concat(newPids, before)
			}
			r := revive(e, s, vpid, before, image, p.flags...)
			r.finish()
			// Else there are two vDSOs, of which one calls the other.
			if !p.unmapped && !strings.Contains(r.said(), "Runtime vdso/vvar matches dumpee, remap inplace") {
				t.Error("criu takes the vDSO for another kernel's")
			}
		})
	}
}

// finish has it look twice at itself.
func (r *revived) finish() {
	r.e.T.Helper()
	looks := strings.Count(r.Log(), "good ")
	r.Kill(unix.SIGUSR1)
	harness.Says(r.e.T, r, fmt.Sprintf("good %d", looks+1))
	r.Kill(unix.SIGUSR2)
	harness.Says(r.e.T, r, "done")
}

// A program of the host gets its pid again, on the host.
func TestRestoreAdopted(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		return // criu is root's
	}
	e := harness.New(t, "")
	l := e.Launch(true, harness.Program(t, "keys.c")) // which has no children, that others would have to reap
	harness.Says(t, l, "ready")
	image := e.Join("image")
	l.Dump(image)
	l.Wait() // else the pid is taken
	revive(e, l, l.PID, nil, image).finish()
}
