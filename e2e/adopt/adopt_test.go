package adopt

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/e2e/harness"
)

// adopted is a container that goes on writing where the program did before.
type adopted struct {
	*harness.Container
	from *harness.Launched
}

func (a adopted) Log() string { return a.from.Log() }

// behind starts a program whose parent is of the tree, too, since the tree's
// own first process gets another one.
func behind(e *harness.Env, session bool, program ...string) *harness.Launched {
	e.T.Helper()
	return e.Launch(session, append([]string{harness.Tool(e.T, "sh"), "-c", `"$@" & wait`, "sh"}, program...)...)
}

type program struct {
	name    string
	command func(*harness.Env) []string
	who     []string
	churn   harness.Churn
}

func programs() []program {
	python := func(e *harness.Env) string { return harness.Tool(e.T, "python3", "/usr/bin") }
	return []program{
		{"branches", func(e *harness.Env) []string { return []string{python(e), harness.Program(e.T, "branches.py")} },
			[]string{"main", "session", "member", "thread", "group", "other", "left"}, harness.Churn{}},
		{"python", func(e *harness.Env) []string {
			return []string{python(e), harness.Program(e.T, "threads.py"), e.WriteFile("data", "some text to be read again and again\n")}
		}, []string{"main", "producer", "consumer", "sockets", "child", "memory"}, harness.Churn{}},
		{"bash", func(e *harness.Env) []string {
			return []string{harness.Tool(e.T, "bash"), harness.Program(e.T, "jobs.sh"), e.Mkdir("jobs")}
		}, []string{"main", "job1", "job2", "pipeline", "fifo"}, harness.Churn{Comms: []string{"sleep", "bash", "jobs.sh"}}},
	}
}

// A tree is left running, saved, restored, and then lives as any container does.
func TestAdopt(t *testing.T) {
	for _, p := range programs() {
		for _, user := range harness.Users() {
			for _, session := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/as %s/session %t", p.name, user, session), func(t *testing.T) {
					t.Parallel()
					e := harness.New(t, user)
					l := behind(e, session, p.command(e)...)
					var j harness.Journal
					harness.GoesOn(t, l, &j, p.who...)
					pgid, sid := ids(t, l.PID)

					l.Dump(e.Join("left"), "--leave-running")
					harness.GoesOn(t, l, &j, p.who...)
					e.Run("verify", e.Join("left"))

					if name := l.Dump(e.Join("image")); name != "sh" {
						t.Errorf("it is called %q", name)
					}
					if ws := l.Wait(); ws.Signal() != unix.SIGKILL {
						t.Errorf("it ended with status %v", ws)
					}
					if left := e.Processes(); len(left) > 0 {
						t.Errorf("after the dump there are still %v", left)
					}
					e.Restore(e.Join("image"), "grown")
					c := adopted{&harness.Container{Env: e, Name: "grown"}, l}
					harness.GoesOn(t, c, &j, p.who...)
					ps := c.Ps()
					i := slices.IndexFunc(ps.Processes, func(q harness.Process) bool { return q.VPID == l.PID })
					if i < 0 || ps.Processes[i].VPPID != 1 || ps.Processes[i].VPGID != pgid || ps.Processes[i].VSID != sid {
						t.Fatalf("pid %d, group %d, session %d is not inside: %+v", l.PID, pgid, sid, ps)
					}

					poke(t, c, &j)
					before := c.Ps()
					c.Dump(e.Join("again"))
					e.Restore(e.Join("again"), "")
					if err := harness.SameInside(before, c.Ps(), p.churn); err != nil {
						t.Error(err)
					}
					harness.GoesOn(t, c, &j, p.who...)
					poke(t, c, &j)
				})
			}
		}
	}
}

// poke sends main a signal, by the number it knows itself by, which it counts.
func poke(t *testing.T, c adopted, j *harness.Journal) {
	t.Helper()
	last := j.Last("main")
	var pid int
	if _, err := fmt.Sscanf(last.IDs, "pid %d", &pid); err != nil {
		t.Fatalf("%q: %v", last.IDs, err)
	}
	c.Env.Run("exec", c.Name, "--", "kill", "-USR1", strconv.Itoa(pid))
	harness.Eventually(t, "it counts the signal", func() error {
		if err := j.Read(c.Log()); err != nil {
			return harness.Final{Err: err}
		}
		if j.Last("main").Count == last.Count {
			return fmt.Errorf("it has counted %d", last.Count)
		}
		return nil
	})
}

func ids(t *testing.T, pid int) (pgid, sid int) {
	t.Helper()
	pgid, err := unix.Getpgid(pid)
	if err != nil {
		t.Fatal(err)
	}
	if sid, err = unix.Getsid(pid); err != nil {
		t.Fatal(err)
	}
	return pgid, sid
}

// One image lives twice, side by side, and its ids inside are those of the host.
func TestCopies(t *testing.T) {
	for _, user := range harness.Users() {
		t.Run("as "+user, func(t *testing.T) {
			e := harness.New(t, user)
			l := e.Launch(false, harness.Tool(t, "sh"), "-c", "sleep 1000 & sleep 2000 & echo ready; wait")
			said(t, l, "ready")
			first := lastPID(t)
			l.Dump(e.Join("image"))
			last := lastPID(t)
			one, two := e.Restore(e.Join("image"), "one"), e.Restore(e.Join("image"), "two")
			a, b := one.Ps(), two.Ps()
			if len(a.Processes) != 3 || a.Processes[0].VPID != l.PID {
				t.Errorf("%d is not there with its two children: %+v", l.PID, a)
			}
			if err := harness.SameInside(a, b, harness.Churn{}); err != nil {
				t.Error(err)
			}
			one.Remove()
			if err := two.Alive(); err != nil {
				t.Error(err)
			}
			// A new one gets the next number on the host, but for that of a helper.
			var next int
			if _, err := fmt.Sscan(e.Run("exec", "two", "--", "sh", "-c", "echo $$"), &next); err != nil {
				t.Fatal(err)
			}
			if wrapped := last < first; !wrapped && (next <= first || next > last+10) {
				t.Errorf("the next pid is %d; during the dump the host's last one went from %d to %d", next, first, last)
			}
		})
	}
}

// What was started in a terminal and has outlived it (nohup(1)) can be saved.
func TestHungUp(t *testing.T) {
	for _, user := range harness.Users() {
		t.Run("as "+user, func(t *testing.T) {
			e := harness.New(t, user)
			h := hold(e, "hung_up")
			image := e.Join("image")
			e.Run("dump", "--pid", strconv.Itoa(h.pid), image)
			c := e.Restore(image, "outlived")
			if ps := c.Ps(); len(ps.Processes) != 1 || ps.Processes[0].VPID != h.pid {
				t.Errorf("pid %d is not there: %+v", h.pid, ps)
			}
			links := e.Run("exec", "outlived", "--", "sh", "-c", fmt.Sprintf("readlink /proc/%d/fd/*", h.pid))
			if !strings.Contains(links, "/dev/pts/") {
				t.Errorf("it has not its terminal, hung up: %s", links)
			}
		})
	}
}

// lastPID is the number that the host gave away last.
func lastPID(t *testing.T) (n int) {
	t.Helper()
	b, err := os.ReadFile("/proc/sys/kernel/ns_last_pid")
	if err == nil {
		_, err = fmt.Sscan(string(b), &n)
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Standard output on a file goes on there, and the container has no log of it.
func said(t *testing.T, s harness.Speaker, line string) {
	t.Helper()
	harness.Eventually(t, "it says "+line, func() error {
		if slices.Contains(lines(s.Log()), line) {
			return nil
		}
		if err := s.Alive(); err != nil {
			return err
		}
		return fmt.Errorf("so far: %q", s.Log())
	})
}

// Whose a host id is, of a process and of a thread.
func TestWhose(t *testing.T) {
	for _, user := range harness.Users() {
		t.Run("as "+user, func(t *testing.T) {
			e := harness.New(t, user)
			c := e.Start("train", nil, harness.Tool(t, "python3", "/usr/bin"), harness.Program(t, "branches.py"))
			var j harness.Journal
			harness.GoesOn(t, c, &j, "thread")
			for _, p := range c.Ps().Processes {
				for _, th := range p.Threads {
					var got []harness.Ps
					e.JSON(&got, "ps", "--pid", strconv.Itoa(th.TID))
					if len(got) != 1 || got[0].Name != "train" || len(got[0].Processes) != 1 {
						t.Fatalf("host tid %d: %+v", th.TID, got)
					}
					q := got[0].Processes[0]
					if q.VPID != p.VPID || q.PID != p.PID || q.VPPID != p.VPPID || q.VPGID != p.VPGID || q.VSID != p.VSID || !slices.Contains(q.Threads, th) {
						t.Errorf("host tid %d is %+v, not a thread of %+v", th.TID, q, p)
					}
					out := e.Run("ps", "--pid", strconv.Itoa(th.TID))
					want := fmt.Sprintf("train %d %d %d %d", p.VPID, p.PID, th.VTID, th.TID)
					if got := fields(out, 1, 5); got != want {
						t.Errorf("%q, want %q", out, want)
					}
				}
			}
			r := e.Try("ps", "--pid", strconv.Itoa(os.Getpid()))
			want := fmt.Sprintf("ckpt: error: host pid %d is in no container: it is the host's own\n", os.Getpid())
			if r.Code != 5 || r.Err != want {
				t.Errorf("of the test itself: %v", r)
			}
		})
	}
}
