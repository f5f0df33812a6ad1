package fault

import (
	"bytes"
	"errors"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/e2e/harness"
)

// underFilter runs ckpt under a seccomp filter by which a system call fails.
func underFilter(t *testing.T, e *harness.Env, call int, errno unix.Errno, args ...string) harness.Result {
	t.Helper()
	all := append([]string{strconv.Itoa(call), strconv.Itoa(int(errno)), harness.Ckpt()}, args...)
	cmd := e.Command(t.Context(), harness.Program(t, "fails.c"), all...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if _, exit := errors.AsType[*exec.ExitError](err); err != nil && !exit {
		t.Fatal(err)
	}
	return harness.Result{Args: args, Code: cmd.ProcessState.ExitCode(), Out: out.String(), Err: errs.String()}
}

// family starts a family that counts; image is where it may be saved.
func family(e *harness.Env) (c *harness.Container, j *harness.Journal, image string) {
	e.T.Helper()
	c = e.Start("counts", nil, harness.Program(e.T, "family.c"), e.Mkdir("family"))
	j = new(harness.Journal)
	counts(c, j, "main")
	return c, j, e.Join("image")
}

// TestUnderFilter: ckpt works under a seccomp filter, as in a container of Docker; but
// it cannot save what is under one, too, and says so.
func TestUnderFilter(t *testing.T) {
	for _, user := range harness.Users() {
		t.Run("as "+user, func(t *testing.T) {
			e := harness.New(t, user)
			c, j, image := family(e)
			if r := underFilter(t, e, unix.SYS_KEXEC_LOAD, unix.EPERM, "dump", c.Name, image); r.Code != 0 {
				t.Fatal(r)
			}
			read(t, c, j)
			if r := underFilter(t, e, unix.SYS_KEXEC_LOAD, unix.EPERM, "restore", image); r.Code != 0 {
				t.Fatal(r)
			}
			counts(c, j, "main")
			r := e.Try("dump", c.Name, e.Join("again"))
			if harness.AsRoot(user) && r.Code != 0 {
				t.Errorf("by who is under none: %v", r)
			}
			if !harness.AsRoot(user) && (r.Code != 3 || !strings.Contains(r.Err, "it is under seccomp, which only root can save")) {
				t.Errorf("by who is none: %v", r)
			}
			c.Remove()
		})
	}
}

// TestUnreadablePages: the disk fails when a restored process is given its memory.
func TestUnreadablePages(t *testing.T) {
	for _, user := range harness.Users() {
		t.Run("as "+user, func(t *testing.T) {
			e := harness.New(t, user)
			c, j, image := family(e)
			c.Dump(image)
			r := underFilter(t, e, unix.SYS_PREADV, unix.EIO, "restore", image)
			if r.Code != 1 || !strings.Contains(r.Err, ": read pages-") || !strings.Contains(r.Err, "input/output error\nckpt: hint: its disk fails") {
				t.Errorf("want exit code 1, the file and what to do: %v", r)
			}
			if p := e.Processes(); len(p) > 0 {
				t.Errorf("processes left: %v", p)
			}
			read(t, c, j)
			e.Restore(image, "")
			counts(c, j, "main")
		})
	}
}
