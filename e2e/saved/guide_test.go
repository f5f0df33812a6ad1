package saved

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"ckpt/e2e/harness"
)

// block is the text of docs/saved-by-itself.md between ```sort and ```: the n-th.
func block(t *testing.T, sort string, n int) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/saved-by-itself.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)```"+sort+"\n(.*?)```").FindAllSubmatch(page, -1)
	if len(found) <= n {
		t.Fatalf("the page has %d blocks of %s", len(found), sort)
	}
	return string(found[n][1])
}

// bin is a directory with ckpt, and with the program that the page calls train.py, as
// they are found on a machine that is set up as it says.
func bin(e *harness.Env) (dir string) {
	e.T.Helper()
	dir = e.Mkdir("bin")
	program := harness.Program(e.T, "refusing.py")
	if err := errors.Join(os.Symlink(harness.Ckpt(), filepath.Join(dir, "ckpt")), os.Symlink(program, e.Join("train.py"))); err != nil {
		e.T.Fatal(err)
	}
	e.Setenv("PATH", dir+":"+harness.Path)
	return dir
}

// untilRuns waits until a container that was dumped runs again.
func untilRuns(c *harness.Container) {
	c.Env.T.Helper()
	harness.Eventually(c.Env.T, "it runs again", func() error {
		if s := c.Ps().State; s != "running" {
			return fmt.Errorf("it is %s", s)
		}
		return nil
	})
}

// TestUnitFile: systemd takes every line of the unit file; and its command does what the
// page says when systemd tells it to stop, and starts it again.
func TestUnitFile(t *testing.T) {
	e := harness.New(t, harness.Users()[0])
	bin(e)
	unit := block(t, "ini", 0)
	// ckpt has to be where the file says.
	checked := e.WriteFile("train.service", strings.ReplaceAll(unit, "/usr/bin/ckpt", e.Join("bin/ckpt")))
	cmd := exec.Command(harness.Tool(t, "systemd-analyze"), "verify", "--man=no", checked)
	cmd.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+e.Dir+":")
	if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), "train.service") {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	if !strings.Contains(unit, "\nKillMode=mixed\n") {
		t.Error("SIGTERM would go to the programs, too")
	}
	_, line, _ := strings.Cut(unit, "\nExecStart=/usr/bin/")
	line, _, _ = strings.Cut(line, "\n")
	for n := 1; n <= 2; n++ {
		e.Own("train")
		l := e.Launch(true, "/bin/sh", "-c", "exec "+line)
		c := &harness.Container{Env: e, Name: "train"}
		if n == 2 {
			untilRuns(c)
			c.Kill("USR1") // to sh, which ends: the program did not end well
			exits(l, 128+int(syscall.SIGUSR1), "")
			break
		}
		harness.Says(t, l, "ready")
		l.Kill("TERM")
		exits(l, 0, "train: saved in ")
	}
	if _, err := os.Stat(e.Join("done")); !os.IsNotExist(err) {
		t.Errorf("it is said to be done: %v", err)
	}
}

// TestBatchScript: SIGTERM to the script, as Slurm sends it for B:TERM, has the container
// saved and the job put back into the queue; the next run goes on, to the end.
func TestBatchScript(t *testing.T) {
	e := harness.New(t, harness.Users()[0])
	dir := bin(e)
	script := e.WriteFile("job.sh", block(t, "sh", 0))
	// What Slurm is told.
	told := e.Join("told")
	if err := os.WriteFile(filepath.Join(dir, "scontrol"), []byte("#!/bin/sh\necho \"$@\" >>"+told+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	e.Setenv("SLURM_JOB_ID", "4711")
	c := e.Own("train")
	l := e.Launch(true, "/bin/bash", script)
	harness.Says(t, l, "ready")
	l.Kill("TERM")
	exits(l, 0, "train: saved in ")
	if b, err := os.ReadFile(told); err != nil || string(b) != "requeue 4711\n" {
		t.Errorf("Slurm is told %q: %v", b, err)
	}
	l = e.Launch(true, "/bin/bash", script)
	untilRuns(c)
	c.Kill("KILL")
	exits(l, 128+9, "")
	if b, err := os.ReadFile(told); err != nil || string(b) != "requeue 4711\n" {
		t.Errorf("Slurm is told %q: %v", b, err)
	}
}

// TestCrontab: its lines, as cron(8) runs them: by sh, a percent sign without its
// backslash.
func TestCrontab(t *testing.T) {
	e := harness.New(t, harness.Users()[0])
	bin(e)
	lines := [2]string{}
	for n := range lines {
		fields := regexp.MustCompile(`^(?:@\w+|(?:\S+ ){5})`).Split(strings.TrimSpace(block(t, "cron", n)), 2)
		if len(fields) != 2 {
			t.Fatalf("no line of a crontab: %q", fields)
		}
		lines[n] = strings.ReplaceAll(fields[1], `\%`, "%")
	}
	c := e.Start("train", nil, e.Join("train.py"))
	c.Says("ready")
	sh := func(line string) {
		t.Helper()
		if out, err := e.Command(t.Context(), "/bin/sh", "-c", line).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
	}
	sh(lines[1])
	made, err := filepath.Glob(e.Join("train.1*"))
	if err != nil || len(made) != 1 {
		t.Fatalf("%v: %v", made, err)
	}
	c.Remove()
	if err := errors.Join(os.Mkdir(e.Join("train.saves"), 0o755), os.Rename(made[0], e.Join("train.saves", "000001-20260117T080500Z"))); err != nil {
		t.Fatal(err)
	}
	sh(lines[0])
	log, err := os.ReadFile(e.Join("train.log"))
	if err != nil || !strings.HasPrefix(string(log), "train: restored in ") {
		t.Errorf("%s: %v", log, err)
	}
	untilRuns(c)
}
