package criu

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/e2e/harness"
)

// program is one that was started without ckpt; pid is its own.
type program struct {
	*harness.Launched
	pid int
}

func (p program) Kill(signal string) {
	p.Env.T.Helper()
	if err := unix.Kill(p.pid, unix.SignalNum("SIG"+signal)); err != nil {
		p.Env.T.Fatal(err)
	}
}

// restored is a container that goes on writing where the program did before.
type restored struct {
	*harness.Container
	from *harness.Launched
}

func (r restored) Log() string { return r.from.Log() }

// looker is a program that looks at itself when it is asked (e2e/program/state.h).
type looker interface {
	harness.Speaker
	Kill(signal string)
}

// looks counts them.
type looks int

func (n *looks) at(t *testing.T, p looker) {
	t.Helper()
	*n++
	p.Kill("USR1")
	harness.Says(t, p, fmt.Sprintf("good %d", *n))
}

// dumped saves a process and all below it as criu does, which is root's.
func dumped(e *harness.Env, pid int, flags ...string) (dir string) {
	e.T.Helper()
	dir = e.Mkdir("theirs")
	args := append([]string{"dump", "--tree", fmt.Sprint(pid), "--images-dir", dir, "--log-file", "dump.log"}, flags...)
	if out, err := exec.Command(harness.CRIU(e.T, "criu"), args...).CombinedOutput(); err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "dump.log"))
		e.T.Fatalf("criu dump: %v\n%s%s", err, out, log)
	}
	return dir
}

// What criu has saved, ckpt brings back as it was, and saves and restores as any
// container. The programs are those in which there is nothing that criu refuses
// or does not save.
func TestTheirs(t *testing.T) {
	if os.Geteuid() != 0 {
		return // criu is root's
	}
	for _, p := range []struct {
		source string
		args   []string
		// within is a command that runs it in namespaces of its own; forked: as
		// its child.
		within []string
		forked bool
	}{
		{source: "carried.c", args: []string{".", "local"}, within: []string{"unshare", "--ipc"}},
		{source: "carried.c", args: []string{".", "local"}, within: []string{"unshare", "--ipc", "--uts", "--pid", "--fork", "setsid"}, forked: true},
		{source: "registers.c"},
		{source: "locks.c"},
		{source: "handlers.c", args: []string{"catch"}},
		{source: "cputime.c"},
		{source: "limits.c"},
		{source: "vdso.c", args: []string{"moved"}},
		{source: "leases.c"},
		{source: "keys.c"},
		{source: "pty.c"},
	} {
		t.Run(strings.Join(slices.Concat(p.within, []string{p.source}, p.args), " "), func(t *testing.T) {
			t.Parallel()
			e := harness.New(t, "")
			e.Setenv("CKPT_E2E_ADOPTED", "1")
			l := e.Launch(true, slices.Concat(p.within, []string{harness.Program(t, p.source)}, p.args)...)
			harness.Says(t, l, "ready")
			was := program{l, l.PID}
			if p.forked {
				was.pid = harness.Below(l.PID)[1]
			}
			var n looks
			n.at(t, was)
			c := restored{e.Restore(dumped(e, was.pid, "--file-locks"), "theirs"), l}
			n.at(t, c)
			c.Dump(e.Join("ours"))
			e.Restore(e.Join("ours"), "")
			n.at(t, c)
			c.Kill("USR2")
			harness.Says(t, c, "done")
		})
	}
}

// CRIU 4.1 saves no TCP and no UDP where SO_PASSCRED is of unix sockets alone
// (Linux 6.17). What of an image of ckpt's is in CRIU's own files is as CRIU would
// have it: restored without ckpt's, the sockets are as they were.
func TestWithoutOurs(t *testing.T) {
	if os.Geteuid() != 0 {
		return // connections on the host's network are root's
	}
	e := harness.New(t, "")
	c := e.Start("connected", nil, harness.Program(t, "carried.c"), e.Mkdir("work"), "alone")
	c.Says("ready")
	c.Dump(e.Join("image"))
	ours, err := filepath.Glob(e.Join("image", "ckpt*"))
	if err != nil || len(ours) == 0 {
		t.Fatalf("the image has none of ckpt's files: %v", err)
	}
	for _, path := range ours {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	r := e.Restore(e.Join("image"), "translated")
	r.Kill("USR1")
	harness.Says(t, logOf{r, c}, "good 1")
}

// logOf is a container that writes into the log of another.
type logOf struct {
	*harness.Container
	of *harness.Container
}

func (l logOf) Log() string { return l.of.Log() }

// A job of somebody else's session and group keeps their numbers. CRIU 4.1.1 reads
// a personality, of a program at fixed addresses here, as a decimal number.
func TestJob(t *testing.T) {
	if os.Geteuid() != 0 {
		return // criu is root's
	}
	e := harness.New(t, "")
	l := e.Launch(true, "sh", "-c", `"$@" & wait`, "sh", "setarch", "--addr-no-randomize", harness.Program(t, "limits.c"))
	harness.Says(t, l, "ready")
	pid := harness.Below(l.PID)[1]
	c := restored{e.Restore(dumped(e, pid, "--shell-job"), "job"), l}
	ps := c.Ps().Processes
	if len(ps) != 1 || ps[0].VPID != pid || ps[0].VPPID != 1 || ps[0].VPGID != l.PID || ps[0].VSID != l.PID {
		t.Fatalf("pid %d of group and session %d is %+v", pid, l.PID, ps)
	}
	personality, err := os.ReadFile(fmt.Sprintf("/proc/%d/personality", ps[0].PID))
	if err != nil || string(personality) != "00040000\n" {
		t.Errorf("its personality is %q, %v", personality, err)
	}
	var n looks
	n.at(t, c)
}
