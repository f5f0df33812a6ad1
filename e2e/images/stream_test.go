package images

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/e2e/harness"
)

// TestStream: a container goes over a pipe to another state directory, as it would
// to another machine, and comes back by a file.
func TestStream(t *testing.T) {
	for _, user := range harness.Users() {
		for _, flags := range [][]string{nil, {"--compress"}} {
			t.Run(strings.Join(append(flags, "as", user), " "), func(t *testing.T) {
				here, there := harness.New(t, user), harness.New(t, user)
				here.Watch("changing", nil, harness.Program(t, "changing.c"))
				dump := here.Command(t.Context(), harness.Ckpt(), append([]string{"dump", "changing", "-"}, flags...)...)
				restore := there.Command(t.Context(), harness.Ckpt(), "restore", "-")
				there.Own("changing")
				said := connect(t, dump, restore)
				if !strings.Contains(said, "changing: written (") || !strings.Contains(said, "changing: restored in ") {
					t.Errorf("it says %q", said)
				}
				moved := &harness.Subject{Container: &harness.Container{Env: there, Name: "changing"}}
				moved.Look()
				// By a file: named, and on standard input.
				file := there.Join("stream")
				shell(t, there, harness.Ckpt()+" dump changing - >"+file)
				if out := there.Run("verify", file); !strings.Contains(out, "whole") {
					t.Errorf("verify: %s", out)
				}
				there.Restore(file, "")
				moved.Look()
				moved.Remove()
				shell(t, there, harness.Ckpt()+" restore - <"+file)
				moved.Kill("USR1")
				moved.Says("good 2") // for it is as it was in the file, again
			})
		}
	}
}

func shell(t *testing.T, e *harness.Env, script string) {
	t.Helper()
	if out, err := e.Command(t.Context(), "sh", "-c", script).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
}

// filling tells whether so much has gone into a pipe that more is about to, for which
// there is no room (pipe(7): 65,536 bytes, less where some were written singly).
func filling(r *os.File) error {
	n, err := unix.IoctlGetInt(int(r.Fd()), unix.TIOCINQ)
	if err == nil && n < 32768 {
		err = fmt.Errorf("%d bytes are in it", n)
	}
	return err
}

// connect runs two commands as the shell does a | b, and gives what they say on
// standard error and, the second one, on standard output.
func connect(t *testing.T, a, b *exec.Cmd) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	a.Stdout, b.Stdin, a.Stderr, b.Stderr, b.Stdout = w, r, &said, &said, &said
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	errB := b.Run()
	_ = r.Close()
	if errA := a.Wait(); errA != nil || errB != nil {
		t.Fatalf("%v, %v: %s", errA, errB, said.String())
	}
	return said.String()
}

// TestStreamFails: whatever becomes of a stream, the container goes on, and nothing
// is left where it was kept.
func TestStreamFails(t *testing.T) {
	e := harness.New(t, harness.Users()[0])
	s := e.Watch("changing", nil, harness.Program(t, "changing.c"))
	spool := e.Mkdir("spool")
	run := func(script string) (code int, said string) {
		cmd := e.Command(t.Context(), "sh", "-c", script)
		cmd.Env = append(cmd.Env, "TMPDIR="+spool)
		out, _ := cmd.CombinedOutput()
		return cmd.ProcessState.ExitCode(), string(out)
	}
	ckpt := harness.Ckpt()
	for _, tt := range []struct {
		name, script string
		code         int
		want         string
	}{
		{"reader ends", "exec 3>&1; { " + ckpt + " dump changing - 2>&3; echo code $? >&3; } | head -c 100 >" + e.Join("none"), 0, "ckpt: error: write the stream: broken pipe\nckpt: hint: whoever was to read it has ended: look at what it says\ncode 1\n"},
		{"disk full", ckpt + " dump changing - >/dev/full", 1, "ckpt: error: write the stream: no space left on device"},
		{"parent", ckpt + " dump changing - --parent " + e.Join("img") + " | cat", 0, "a stream cannot have a parent image"},
		{"json", ckpt + " dump changing - --json", 2, "--json and an image do not both go to standard output"},
		{"terminal", "script -qec '" + ckpt + " dump changing -' /dev/null", 2, "an image is not for a terminal"},
		{"closed", ckpt + " dump changing - >&-", 2, "standard output is closed, or /dev/null, where the image would be lost"},
		{"/dev/null", ckpt + " dump changing - >/dev/null", 2, "standard output is closed, or /dev/null, where the image would be lost"},
		{"/dev/null, and it goes on", ckpt + " dump changing - --leave-running >/dev/null", 0, "changing: written ("},
		{"from a terminal", "script -qec '" + ckpt + " restore -' /dev/null", 2, "an image does not come from a terminal"},
		{"empty", ckpt + " restore - </dev/null", 4, "standard input: the stream is empty"},
		{"cut off", ckpt + " dump changing - --leave-running | head -c 9999999 | " + ckpt + " restore --name other -", 4, "standard input: the stream is cut off"},
		{"damaged", ckpt + " dump changing - --leave-running >whole && { head -c 9000000 whole; printf x; tail -c +9000002 whole; } | " + ckpt + " restore --name other -", 4, "is damaged at 8.4 MB (checksum)\nckpt: hint: nothing was started: take another copy of the stream\n"},
		{"nowhere to keep it", "TMPDIR=/proc " + ckpt + " dump changing - | cat", 0, "ckpt: hint: name another directory for it: TMPDIR=DIR ckpt"},
	} {
		if tt.name == "parent" {
			e.Run("dump", "changing", e.Join("img"), "--leave-running")
		}
		code, said := run(tt.script)
		if code != tt.code || !strings.Contains(said, tt.want) {
			t.Errorf("%s: code %d, it says %q, want %d and %q", tt.name, code, said, tt.code, tt.want)
		}
		s.Look()
	}
	// Nobody reads, and ckpt is interrupted, or killed, meanwhile.
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd := e.Command(context.Background(), ckpt, "dump", "changing", "-")
		cmd.Env = append(cmd.Env, "TMPDIR="+spool)
		cmd.Stdout = w
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		harness.Eventually(t, "the pipe fills", func() error { return filling(r) })
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); sig == syscall.SIGINT && code != 130 {
			t.Errorf("interrupted: code %d", code)
		}
		_, _ = r.Close(), w.Close()
		s.Look()
	}
	left, err := filepath.Glob(filepath.Join(spool, "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v (%v)", left, err)
	}
}
