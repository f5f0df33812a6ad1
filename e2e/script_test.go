// Package e2e runs the built ckpt as a user would: each file of testdata is
// one story (testscript). Beside testscript's own commands a story has:
//
//	exits CODE COMMAND...   run it and require the exit code
//	user COMMAND...         run it as an ordinary user (nobody), if we are root
//	exits CODE user ...     both
//	waitlog NAME REGEXP     wait until the container's log has a line like it
//	crash NAME              kill -9 the container's supervisor
//	hostpid NAME VPID VAR   set VAR to the host pid of a process
//	supervisor NAME VAR     set VAR to the host pid of the container's supervisor
//	gone PID                require that no process of this host pid lives
//
// Every container a story leaves is killed at its end.
package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"ckpt/container"
	"ckpt/procfs"
)

// binary is the ckpt under test: $CKPT_BINARY, or built here.
func binary(t *testing.T) string {
	t.Helper()
	if b := os.Getenv("CKPT_BINARY"); b != "" {
		return b
	}
	b := filepath.Join(publicDir(t), "ckpt")
	cmd := exec.Command("go", "build", "-o", b, "ckpt/cmd/ckpt")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build ckpt: %v\n%s", err, out)
	}
	return b
}

// publicDir is a temporary directory an ordinary user may enter.
func publicDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ckpt-e2e-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestScripts(t *testing.T) {
	bin := binary(t)
	testscript.Run(t, testscript.Params{
		Dir:         "testdata",
		WorkdirRoot: publicDir(t),
		Setup:       func(env *testscript.Env) error { return setup(env, bin) },
		Condition:   condition,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": cmdExits, "user": cmdUser, "waitlog": cmdWaitlog, "waitps": cmdWaitps, "crash": cmdCrash, "hostpid": cmdHostpid, "gone": cmdGone, "supervisor": cmdSupervisor,
		},
	})
}

// condition: [root] is for what an ordinary user may not do or look at.
func condition(cond string) (bool, error) {
	if cond != "root" {
		return false, errors.New("unknown condition")
	}
	return os.Geteuid() == 0, nil
}

func setup(env *testscript.Env, bin string) error {
	state, user := filepath.Join(env.WorkDir, ".state"), filepath.Join(env.WorkDir, ".user")
	if err := errors.Join(os.Chmod(env.WorkDir, 0o755), os.Mkdir(user, 0o700)); err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(user, nobody, nobody); err != nil {
			return err
		}
	}
	env.Setenv("CKPT_STATE", state)
	env.Setenv("USER_STATE", filepath.Join(user, "state"))
	env.Setenv("USER_DIR", user)
	env.Setenv("PATH", filepath.Dir(bin)+":"+os.Getenv("PATH"))
	env.Defer(func() {
		for _, dir := range []string{state, filepath.Join(user, "state")} {
			end(env.T(), dir)
		}
	})
	return nil
}

// end kills every container of a state directory.
func end(t testscript.T, dir string) {
	cs, err := container.NewStore(dir).List()
	if err != nil {
		t.Log("clean up: ", err)
	}
	for _, c := range cs {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		if err := c.Remove(ctx, true); err != nil {
			t.Log("clean up: ", err)
		}
		cancel()
	}
}

// nobody is the ordinary user, and their group.
const nobody = 65534

// asUser makes a command line one of the ordinary user's.
func asUser(ts *testscript.TestScript, args []string) []string {
	pre := []string{"env", "CKPT_STATE=" + ts.Getenv("USER_STATE")}
	if os.Geteuid() == 0 {
		id := strconv.Itoa(nobody)
		pre = append(pre, "setpriv", "--reuid", id, "--regid", id, "--clear-groups")
	}
	return append(pre, args...)
}

func cmdUser(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 {
		ts.Fatalf("usage: user COMMAND...")
	}
	args = asUser(ts, args)
	err := ts.Exec(args[0], args[1:]...)
	if (err != nil) != neg {
		ts.Fatalf("%v: %v", args, err)
	}
}

func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 || neg {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	args = args[1:]
	if args[0] == "user" {
		args = asUser(ts, args[1:])
	}
	got := 0
	if err := ts.Exec(args[0], args[1:]...); err != nil {
		e, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v: %v", args, err)
		}
		got = e.ExitCode()
	}
	if got != want {
		ts.Fatalf("%v: exit code %d, want %d", args, got, want)
	}
}

// find looks for a container in both state directories.
func find(ts *testscript.TestScript, name string) *container.Container {
	for _, v := range []string{"CKPT_STATE", "USER_STATE"} {
		if c, err := container.NewStore(ts.Getenv(v)).Get(name); err == nil {
			return c
		}
	}
	ts.Fatalf("there is no container %s", name)
	return nil
}

func cmdWaitlog(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 || neg {
		ts.Fatalf("usage: waitlog NAME REGEXP")
	}
	re, err := regexp.Compile(args[1])
	ts.Check(err)
	c := find(ts, args[0])
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	r, w, err := os.Pipe()
	ts.Check(err)
	defer r.Close()
	go func() {
		c.Follow(ctx, w, true)
		w.Close()
	}()
	for in := bufio.NewScanner(r); in.Scan(); {
		if re.MatchString(in.Text()) {
			return
		}
	}
	b, _ := os.ReadFile(c.Log())
	ts.Fatalf("the log of %s has no line like %s:\n%s", args[0], args[1], b)
}

// cmdWaitps waits until a process has come to a state, with a name: what was
// told it, or it told, takes effect a moment later.
func cmdWaitps(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 4 || neg || len(args[2]) != 1 {
		ts.Fatalf("usage: waitps NAME VPID STATE COMM")
	}
	vpid, err := strconv.Atoi(args[1])
	ts.Check(err)
	c := find(ts, args[0])
	var all []container.Process
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		all, err = c.Processes()
		ts.Check(err)
		for _, p := range all {
			if int(p.VPID) == vpid && p.State == args[2][0] && p.Comm == args[3] {
				return
			}
		}
	}
	ts.Fatalf("no process like %v: %+v", args, all)
}

// waitGone waits until a process that is not ours has ended.
func waitGone(ts *testscript.TestScript, fd int) {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10000)
	for err == unix.EINTR {
		n, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10000)
	}
	ts.Check(err)
	if n == 0 {
		ts.Fatalf("the process did not end")
	}
}

func cmdCrash(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 || neg {
		ts.Fatalf("usage: crash NAME")
	}
	c := find(ts, args[0])
	fd, err := unix.PidfdOpen(c.Supervisor, 0)
	ts.Check(err)
	defer unix.Close(fd)
	if up, err := c.Supervised(); !up || err != nil {
		ts.Fatalf("%s is not supervised (%v)", c.Name, err)
	}
	ts.Check(unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0))
	waitGone(ts, fd)
}

func cmdHostpid(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 || neg {
		ts.Fatalf("usage: hostpid NAME VPID VAR")
	}
	ps, err := find(ts, args[0]).Processes()
	ts.Check(err)
	for _, p := range ps {
		if p.VPID.String() == args[1] {
			ts.Setenv(args[2], p.PID.String())
			return
		}
	}
	b, _ := json.Marshal(ps)
	ts.Fatalf("%s has no pid %s: %s", args[0], args[1], b)
}

func cmdSupervisor(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 || neg {
		ts.Fatalf("usage: supervisor NAME VAR")
	}
	ts.Setenv(args[1], strconv.Itoa(find(ts, args[0]).Supervisor))
}

func cmdGone(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: gone PID")
	}
	pid, err := strconv.Atoi(args[0])
	ts.Check(err)
	gone := false
	p, err := procfs.Open(pid)
	if err == nil {
		defer p.Close()
		var st *procfs.Stat
		st, err = p.Stat()
		gone = err == nil && st.State == 'Z' // an orphan that the host's init has to reap
	}
	gone = gone || errors.Is(err, unix.ESRCH)
	if gone == neg {
		ts.Fatalf("host pid %d: gone is %v (%v)", pid, gone, err)
	}
}
