package adopt

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/e2e/harness"
)

// stranger wants ps to tell whose a process is, by the code for no such
// container here, and dump and check to refuse it.
func stranger(e *harness.Env, pid int, whose, look, save string) {
	e.T.Helper()
	r := e.Try("ps", "--pid", strconv.Itoa(pid))
	if r.Code != 5 || !strings.Contains(r.Err, fmt.Sprintf("host pid %d is %s\n", pid, whose)) || !strings.Contains(r.Err, look) {
		e.T.Errorf("%q and %q expected: %v", whose, look, r)
	}
	refused(e, pid, 1, whose, save)
}

// What another user, or another state directory, has in a container is neither
// the host's own nor a tree to be saved.
func TestElsewhere(t *testing.T) {
	for _, owner := range harness.Users() {
		for _, user := range harness.Users() {
			t.Run(fmt.Sprintf("of %s/as %s", owner, user), func(t *testing.T) {
				t.Parallel()
				its, e := harness.New(t, owner), harness.New(t, user)
				c := its.Start("train", nil, harness.Tool(t, "python3", "/usr/bin"), harness.Program(t, "branches.py"))
				var j harness.Journal
				harness.GoesOn(t, c, &j, "main", "thread") // all that is there for a moment has ended
				container := fmt.Sprintf("container train of user %d (state directory %s)", its.UID, its.State())
				as := ""
				if its.UID != e.UID {
					as = fmt.Sprintf("as user %d, ", its.UID)
				}
				look := fmt.Sprintf("hint: %slook at it: CKPT_STATE=%s ckpt ps train\n", as, its.State())
				save := fmt.Sprintf("%ssave the container: CKPT_STATE=%s ckpt dump train DIR", as, its.State())
				ps := c.Ps().Processes
				for _, p := range ps {
					stranger(e, p.PID, fmt.Sprintf("pid %d of %s", p.VPID, container), look, save)
					for _, th := range p.Threads[1:] {
						want := fmt.Sprintf("host tid %d is thread %d of pid %d of %s\n", th.TID, th.VTID, p.VPID, container)
						if r := e.Try("ps", "--pid", strconv.Itoa(th.TID)); r.Code != 5 || !strings.Contains(r.Err, want) {
							t.Errorf("%q expected: %v", want, r)
						}
					}
				}
				init := parent(t, ps[0].PID)
				stranger(e, init, "pid 1 of "+container, look, save)

				supervisor := parent(t, init)
				r := e.Try("ps", "--pid", strconv.Itoa(supervisor))
				if r.Code != 5 || !strings.Contains(r.Err, "hint: it is the supervisor of "+container+"\n") {
					t.Errorf("of the supervisor: %v", r)
				}
				if e.Root() || as == "" {
					refused(e, supervisor, 3, fmt.Sprintf("%s is below pid %d", container, supervisor),
						fmt.Sprintf("%ssave it by itself: CKPT_STATE=%s ckpt dump train DIR", as, its.State()))
				} else {
					refused(e, supervisor, 1, "belongs to user 0", "dump as root")
				}

				if err := unix.Kill(supervisor, unix.SIGKILL); err != nil {
					t.Fatal(err)
				}
				harness.Eventually(t, "init has another parent", func() error {
					if parent(t, init) == supervisor {
						return fmt.Errorf("it is still %d", supervisor)
					}
					return nil
				})
				find := as + "find it by its state directory: CKPT_STATE=DIRECTORY ckpt ps"
				stranger(e, ps[0].PID, fmt.Sprintf("pid %d of a container of user %d whose supervisor was killed, so that nothing tells its name", ps[0].VPID, its.UID),
					find, find)
				harness.GoesOn(t, c, &j, "main", "thread")
			})
		}
	}
}

// A container is no part of a tree that its vpid 1 has come into.
func TestBelow(t *testing.T) {
	for _, user := range harness.Users() {
		t.Run("as "+user, func(t *testing.T) {
			its, e := harness.New(t, user), harness.New(t, user)
			its.Setenv("CKPT", harness.Ckpt())
			// PR_SET_CHILD_SUBREAPER
			l := its.Launch(true, harness.Tool(t, "python3", "/usr/bin"), "-c", `
import ctypes, os, subprocess, time
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
subprocess.run([os.environ["CKPT"], "start", "train", "--", "sleep", "1000"], check=True)
print("ready", flush=True)
time.sleep(1000)`)
			harness.Eventually(t, "it is ready", func() error {
				if strings.HasSuffix(l.Log(), "ready\n") {
					return nil
				}
				return fmt.Errorf("so far: %q", l.Log())
			})
			c := &harness.Container{Env: its, Name: "train"}
			t.Cleanup(c.Remove)
			init := parent(t, c.Ps().Processes[0].PID)
			for _, named := range []string{fmt.Sprintf("container train of user %d (state directory %s)", e.UID, its.State()), fmt.Sprintf("a container of user %d whose supervisor was killed", e.UID)} {
				refused(e, l.PID, 3, named, "give a pid that has no container below it")
				if supervisor := parent(t, init); supervisor != l.PID {
					if err := unix.Kill(supervisor, unix.SIGKILL); err != nil {
						t.Fatal(err)
					}
					harness.Eventually(t, "init has another parent", func() error {
						if p := parent(t, init); p != l.PID {
							return fmt.Errorf("it is %d", p)
						}
						return nil
					})
				}
			}
		})
	}
}

// Inside a container the host is the container, and one inside of it is seen
// from outside as part of it.
func TestInside(t *testing.T) {
	for _, user := range harness.Users() {
		t.Run("as "+user, func(t *testing.T) {
			its, e := harness.New(t, user), harness.New(t, user)
			c := its.Start("outer", nil, harness.Tool(t, "sleep"), "1000")
			r := its.Try("exec", "outer", "--", harness.Ckpt(), "ps", "--pid", "2")
			if r.Code != 5 || r.Err != "ckpt: error: pid 2 is in no container but the one that ckpt itself is in\n" {
				t.Errorf("%v", r)
			}
			its.Run("exec", "outer", "--", harness.Ckpt(), "start", "inner", "--", "sleep", "1001")
			for _, p := range c.Ps().Processes {
				stranger(e, p.PID, fmt.Sprintf("pid %d of container outer of user %d", p.VPID, e.UID)+fmt.Sprintf(" (state directory %s)", its.State()), "ckpt ps outer", "ckpt dump outer DIR")
			}
		})
	}
}

// A process of another pid namespace that ckpt did not make is not the host's own.
func TestOtherNamespace(t *testing.T) {
	e := harness.New(t, "")
	l := e.Launch(true, harness.Tool(t, "unshare"), "--pid", "--fork", "--map-root-user", harness.Tool(t, "sh"), "-c", "echo ready; exec sleep 1000")
	said(t, l, "ready")
	below := harness.Below(l.PID)
	pid := below[len(below)-1]
	r := e.Try("ps", "--pid", strconv.Itoa(pid))
	if r.Code != 5 || r.Err != fmt.Sprintf("ckpt: error: host pid %d is in no container that ckpt can tell: it is pid 1 of another pid namespace\n", pid) {
		t.Errorf("%v", r)
	}
}

// Where /proc hides what is another's, nothing is said of it.
func TestHidden(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root mounts such a /proc")
	}
	e := harness.New(t, "")
	e.Setenv("CKPT", harness.Ckpt())
	for _, how := range []string{"noaccess", "invisible"} {
		l := e.Launch(true, harness.Tool(t, "unshare"), "--mount", harness.Tool(t, "sh"), "-c", `
mount -t proc -o hidepid=`+how+` proc /proc && exec setpriv --reuid 65534 --regid 65534 --clear-groups env CKPT_STATE=/tmp/none sh -c '
sleep 1000 & own=$!
"$CKPT" ps --pid `+strconv.Itoa(os.Getpid())+`; "$CKPT" check --pid `+strconv.Itoa(os.Getpid())+`; "$CKPT" ps --pid $own; echo own $own; kill $own'`)
		if ws := l.Wait(); ws != 0 {
			t.Errorf("status %v", ws)
		}
		said := l.Log()
		hides := fmt.Sprintf("whose %d is cannot be told: this /proc hides the processes of others (hidepid)", os.Getpid())
		if strings.Count(said, hides) != 2 || !strings.Contains(said, " is in no container: it is the host's own\nown ") {
			t.Errorf("with hidepid=%s: %s", how, said)
		}
	}
}
