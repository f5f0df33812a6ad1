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

// revived is a container that criu restores, in a pid namespace made for it. What
// it says goes where it went.
type revived struct {
	*harness.Container
	vpid int // of its command
	cmd  *exec.Cmd
	log  string // criu's
}

// revive has criu restore an image of c. If vpid 1 is in the image, criu makes the
// pid namespace. Else it is the first process of one itself: the ids of all that
// are restored are free there.
func revive(c *harness.Container, vpid int, image string, flags ...string) *revived {
	c.Env.T.Helper()
	e := c.Env
	r := &revived{Container: c, vpid: vpid, log: e.Join("criu.log")}
	args := []string{harness.CRIU(e.T, "criu"), "restore", "-v4", "-D", image, "-W", e.Mkdir("criu"), "--log-file", r.log}
	if vpid != 1 {
		args = append([]string{"unshare", "--pid", "--fork", "--kill-child", "--mount-proc"}, args...)
	}
	args = append(args, flags...)
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
	b, _ := os.ReadFile(r.log)
	lines := slices.DeleteFunc(strings.Split(string(b), "\n"), func(l string) bool { return !strings.Contains(l, "Error") })
	return harness.Final{Err: fmt.Errorf("it has ended, or was not restored: %s", strings.Join(lines, "\n"))}
}

// Kill signals the command, whose host pid is looked for among all that
// descends from unshare.
func (r *revived) Kill(sig syscall.Signal) {
	t := r.Env.T
	t.Helper()
	var host int
	harness.Eventually(t, "criu restores it", func() error {
		for _, pid := range harness.Below(r.cmd.Process.Pid) {
			b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			for l := range strings.Lines(string(b)) {
				f := strings.Fields(l)
				if len(f) > 0 && f[0] == "NSpid:" && f[len(f)-1] == fmt.Sprint(r.vpid) && r.done() {
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

// done: criu has let go of what it has restored.
func (r *revived) done() bool {
	b, _ := os.ReadFile(r.log)
	return strings.Contains(string(b), "Restore finished successfully.")
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
	}{
		{source: "carried.c", args: []string{"."}},
		{source: "carried.c", args: []string{"."}, start: []string{"--no-init"}},
		{source: "carried.c", args: []string{".", "connected"}, flags: []string{"--tcp-established"}},
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
		{source: "vdso.c", args: []string{"none"}},
	} {
		t.Run(strings.Join(slices.Concat([]string{p.source}, p.start, p.args), " "), func(t *testing.T) {
			t.Parallel()
			e := harness.New(t, "")
			s := e.Watch("criu", p.start, append([]string{harness.Program(t, p.source)}, p.args...)...)
			vpid := s.Ps().Processes[0].VPID
			s.Dump(s.Image())
			r := revive(s.Container, vpid, e.Join("image1"), p.flags...)
			r.Kill(unix.SIGUSR1)
			harness.Says(t, r, "good 1")
			r.Kill(unix.SIGUSR2)
			harness.Says(t, r, "done")
		})
	}
}
