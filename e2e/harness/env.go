package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience bounds a single command of ckpt and every Eventually;
// $CKPT_PATIENCE is another, for a machine that is emulated.
var patience = func() time.Duration {
	if d, err := time.ParseDuration(os.Getenv("CKPT_PATIENCE")); err == nil {
		return d
	}
	return 60 * time.Second
}()

// mark is the environment variable by which a test knows its processes
// again, whoever their parent is and whatever they are called.
const mark = "CKPT_E2E"

// Env is the surroundings of one test: a directory, a state directory and a
// user of its own.
type Env struct {
	T testing.TB
	// Dir is readable by all and belongs to the user; its path is short, as
	// that of a unix socket must be (unix(7): 108 bytes).
	Dir string
	// UID and GID are those of the user that runs ckpt.
	UID, GID int
	extra    []string
	names    []string // containers to end
	launched int      // by Launch
}

// New makes the surroundings for the user of that name; "" is the one who
// runs the test. The test ends with everything in it removed, and fails if
// ckpt left anything of it behind.
func New(t testing.TB, username string) *Env {
	t.Helper()
	e := &Env{T: t, UID: os.Geteuid(), GID: os.Getegid()}
	if username != "" {
		e.UID, e.GID = Lookup(t, username)
	}
	dir, err := os.MkdirTemp("", "ckpt-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	e.Dir = dir
	t.Cleanup(e.clean)
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chown(dir, e.UID, e.GID)); err != nil {
		t.Fatal(err)
	}
	return e
}

// Lookup gives the ids of a user, who must exist.
func Lookup(t testing.TB, name string) (uid, gid int) {
	t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	uid, err = strconv.Atoi(u.Uid)
	if err != nil {
		t.Fatal(err)
	}
	gid, err = strconv.Atoi(u.Gid)
	if err != nil {
		t.Fatal(err)
	}
	return uid, gid
}

// Root tells whether ckpt runs as root.
func (e *Env) Root() bool { return e.UID == 0 }

// State is the state directory of ckpt.
func (e *Env) State() string { return filepath.Join(e.Dir, "state") }

// Join is a path in Dir.
func (e *Env) Join(name ...string) string {
	return filepath.Join(append([]string{e.Dir}, name...)...)
}

// Setenv adds a variable for everything that is started from here on.
func (e *Env) Setenv(name, value string) { e.extra = append(e.extra, name+"="+value) }

// WriteFile makes a file in Dir that belongs to the user.
func (e *Env) WriteFile(name, text string) string {
	e.T.Helper()
	path := e.Join(name)
	if err := errors.Join(os.WriteFile(path, []byte(text), 0o644), os.Chown(path, e.UID, e.GID)); err != nil {
		e.T.Fatal(err)
	}
	return path
}

// Mkdir makes a directory in Dir that belongs to the user.
func (e *Env) Mkdir(name string) string {
	e.T.Helper()
	path := e.Join(name)
	if err := errors.Join(os.Mkdir(path, 0o755), os.Chown(path, e.UID, e.GID)); err != nil {
		e.T.Fatal(err)
	}
	return path
}

// Command is a program run in Dir as the user, with a plain environment.
func (e *Env) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = e.Dir
	cmd.Env = append([]string{
		"PATH=" + Path, "HOME=" + e.Dir, "LC_ALL=C.UTF-8", "TMPDIR=" + e.Dir,
		"CKPT_STATE=" + e.State(), mark + "=" + e.Dir,
	}, e.extra...)
	if e.UID != os.Geteuid() {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(e.UID), Gid: uint32(e.GID)}}
	}
	return cmd
}

// Result is how a command of ckpt ended.
type Result struct {
	Args     []string
	Code     int
	Out, Err string
	Took     time.Duration
	Memory   int64 // that it had resident at most, in bytes (of Try)
}

func (r Result) String() string {
	return fmt.Sprintf("ckpt %s: exit code %d after %v\n--- standard output\n%s--- standard error\n%s---",
		strings.Join(r.Args, " "), r.Code, r.Took.Round(time.Millisecond), r.Out, r.Err)
}

// Try runs ckpt and returns how it ended. One that does not end fails the
// test, with the stacks of its goroutines.
func (e *Env) Try(args ...string) Result {
	e.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := e.Command(ctx, Ckpt(), args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGQUIT) }
	cmd.WaitDelay = 5 * time.Second
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	start := time.Now()
	err := cmd.Run()
	r := Result{Args: args, Out: out.String(), Err: errs.String(), Took: time.Since(start)}
	if cmd.ProcessState == nil {
		e.T.Fatalf("ckpt %s: %v", strings.Join(args, " "), err)
	}
	r.Code = cmd.ProcessState.ExitCode()
	if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		r.Memory = u.Maxrss << 10
	}
	if ctx.Err() != nil {
		e.T.Fatalf("does not end: %v", r)
	}
	return r
}

// Run runs ckpt, which must succeed, and returns its standard output.
func (e *Env) Run(args ...string) string {
	e.T.Helper()
	r := e.Try(args...)
	if r.Code != 0 {
		e.T.Fatal(r)
	}
	return r.Out
}

// JSON runs ckpt with --json and reads its standard output into v.
func (e *Env) JSON(v any, args ...string) {
	e.T.Helper()
	args = append([]string{args[0], "--json"}, args[1:]...)
	out := e.Run(args...)
	if err := json.Unmarshal([]byte(out), v); err != nil {
		e.T.Fatalf("ckpt %s: %v in:\n%s", strings.Join(args, " "), err, out)
	}
}

// Final is an error that no waiting can mend.
type Final struct{ Err error }

func (f Final) Error() string { return f.Err.Error() }

// Unwrap gives the error itself.
func (f Final) Unwrap() error { return f.Err }

// Eventually asks again and again until ok says nil; its last error is the
// test's when patience ends or the error is Final.
func Eventually(t testing.TB, what string, ok func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ok()
		if err == nil {
			return
		}
		if final := (Final{}); errors.As(err, &final) {
			t.Fatalf("%s: %v", what, err)
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: still not after %v: %v", what, patience, err)
		}
		<-tick.C
	}
}
