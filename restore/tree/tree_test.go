package tree

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/pidns"
)

// row is a process with SIGCHLD as exit signal.
func row(pid, ppid, pgid, sid pidns.VPID, change ...func(*Row)) Row {
	r := Row{VPID: pid, PPID: ppid, PGID: pgid, SID: sid, ExitSignal: unix.SIGCHLD}
	for _, c := range change {
		c(&r)
	}
	return r
}

func zombie(st unix.WaitStatus) func(*Row) {
	return func(r *Row) { r.Zombie, r.Status = true, st }
}
func subreaper(r *Row)                       { r.Subreaper = true }
func signal(s unix.Signal) func(*Row)        { return func(r *Row) { r.ExitSignal = s } }
func vm(id uint64) func(*Row)                { return func(r *Row) { r.VM = id } }
func sighand(id uint64) func(*Row)           { return func(r *Row) { r.Sighand = id } }
func files(id uint64) func(*Row)             { return func(r *Row) { r.Files = id } }
func fs(id uint64) func(*Row)                { return func(r *Row) { r.FS = id } }
func comm(name string) func(*Row)            { return func(r *Row) { r.Comm = name } }
func threads(ids ...pidns.VPID) func(r *Row) { return func(r *Row) { r.Threads = ids } }
func by(thread pidns.VPID) func(*Row)        { return func(r *Row) { r.ByThread = thread } }

// in puts a process into the pid namespace of first, below the container's own
// in one or more others: ids, group and session are what it sees of them there.
func in(first pidns.VPID, ids, group, session []pidns.VPID) func(*Row) {
	return func(r *Row) {
		r.Space, r.Nested, r.GroupNested, r.SessionNested = first, ids, group, session
	}
}

type ids = []pidns.VPID

// users are the user namespaces made inside that a process is in.
func users(ids ...uint32) func(*Row) { return func(r *Row) { r.Users = ids } }

// owner: the process's pid namespace belongs to a user namespace made inside.
func owner(id uint32) func(*Row) { return func(r *Row) { r.Owner = id } }

// TestThreads: whose child somebody is follows from who forked it, and how.
func TestThreads(t *testing.T) {
	rows := []Row{row(2, 1, 2, 2, threads(2, 3)), row(4, 2, 4, 4, by(3)), row(5, 2, 4, 4, by(3)), row(6, 2, 7, 7, by(3)), row(8, 2, 2, 2)}
	steps, err := Compile(rows, Options{})
	if err != nil {
		t.Fatal(err)
	}
	by := Threads(steps)
	for _, r := range rows {
		if by[r.VPID] != r.ByThread {
			t.Errorf("pid %d is a child of thread %d, not %d", r.VPID, by[r.VPID], r.ByThread)
		}
	}
}

// TestSteps shows the steps of the plain cases, word for word.
func TestSteps(t *testing.T) {
	for _, c := range []struct {
		name string
		rows []Row
		want string
	}{
		{"one process", []Row{row(2, 1, 2, 2)}, `
pid 1 forks pid 2
pid 2 starts session 2`},
		{"a pid namespace in a user namespace", []Row{row(2, 1, 2, 2), row(5, 2, 5, 5, in(5, ids{1}, ids{1}, ids{1}), owner(2)),
			row(6, 5, 5, 5, in(5, ids{2}, ids{1}, ids{1}), owner(2))}, `
pid 1 forks pid 2
pid 2 starts session 2
pid 2 forks helper 32767
pid 32767 enters user namespace 2 for pid 5
pid 32767 forks pid 5/1 +parent +newpid
pid 32767 exits with status 0x0
pid 2 waits for pid 32767
pid 5 starts session 5
pid 5 forks pid 6/2`},
		{"a thread's child in a user namespace", []Row{row(2, 1, 2, 2, threads(2, 3), users(2)), row(4, 2, 2, 2, by(3), users(2, 3))}, `
pid 1 forks pid 2
pid 2 starts session 2
pid 2, thread 3, forks pid 4`},
		{"a thread's child, and another outside of the user namespace", []Row{row(2, 1, 2, 2, threads(2, 3), users(2)), row(4, 2, 2, 2, by(3), users(2)),
			row(5, 2, 2, 2)}, `
pid 1 forks pid 2
pid 2 starts session 2
pid 2 forks pid 4
pid 2 forks pid 5`},
		{"shell with a job of two", []Row{row(2, 1, 2, 2), row(5, 2, 5, 2), row(6, 2, 5, 2)}, `
pid 1 forks pid 2
pid 2 starts session 2
pid 2 forks pid 5
pid 2 forks pid 6
pid 5 joins group 5
pid 6 joins group 5`},
		{"child of a thread", []Row{row(2, 1, 2, 2, threads(2, 3)), row(5, 2, 2, 2, by(3))}, `
pid 1 forks pid 2
pid 2 starts session 2
pid 2, thread 3, forks pid 5`},
		{"child of a thread of a process that unshares", []Row{row(2, 1, 2, 2, files(1)), row(3, 2, 2, 2, files(2), threads(3, 4)),
			row(5, 3, 2, 2, files(1), by(4))}, `
pid 1 forks pid 2
pid 2 starts session 2
pid 2 forks pid 3 +files
pid 3 forks pid 5 +files
pid 3 unshares +files`},
		{"child of a thread of a process that has unshared", []Row{row(2, 1, 2, 2, files(1)), row(3, 2, 2, 2, files(2), threads(3, 4)),
			row(5, 3, 2, 2, by(4)), row(6, 3, 2, 2, files(1))}, `
pid 1 forks pid 2
pid 2 starts session 2
pid 2 forks pid 3 +files
pid 3 forks pid 6 +files
pid 3 unshares +files
pid 3, thread 4, forks pid 5`},
		{"child of a thread, born before the session that shares", []Row{row(2, 1, 2, 2, files(1)), row(3, 2, 3, 3, files(2), threads(3, 4)),
			row(5, 3, 2, 2, by(4)), row(6, 3, 3, 3, files(1)), row(7, 3, 3, 3, by(4))}, `
pid 1 forks pid 2
pid 2 starts session 2
pid 2 forks pid 3 +files
pid 3 forks pid 5
pid 3 starts session 3
pid 3 forks pid 6 +files
pid 3 unshares +files
pid 3, thread 4, forks pid 7`},
		{"child of a thread by a sibling", []Row{row(2, 1, 2, 2, threads(2, 3)), row(4, 2, 4, 4, by(3)), row(5, 2, 4, 4, by(3))}, `
pid 1 forks pid 2
pid 2 starts session 2
pid 2, thread 3, forks pid 4
pid 4 starts session 4
pid 4 forks pid 5 +parent`},
		{"child of a thread by a dead sibling", []Row{row(2, 1, 1, 1, threads(2, 3)), row(5, 2, 4, 4, by(3))}, `
pid 1 forks pid 2
pid 2, thread 3, forks helper 4
pid 4 starts session 4
pid 4 forks pid 5 +parent
pid 4 exits with status 0x0
pid 2 waits for pid 4`},
		{"child of the time before setsid", []Row{row(2, 1, 2, 2), row(3, 2, 3, 3), row(4, 3, 2, 2)}, `
pid 1 forks pid 2
pid 2 starts session 2
pid 2 forks pid 3
pid 3 forks pid 4
pid 3 starts session 3`},
		{"orphan beside its living session leader", []Row{row(2, 1, 2, 2), row(4, 1, 2, 2)}, `
pid 1 forks pid 2
pid 2 starts session 2
pid 2 forks pid 4 +parent`},
		{"dead session leader", []Row{row(4, 1, 2, 2), row(5, 1, 5, 2)}, `
pid 1 forks helper 2
pid 2 starts session 2
pid 2 forks pid 4 +parent
pid 2 forks pid 5 +parent
pid 2 exits with status 0x0
pid 1 waits for pid 2
pid 5 joins group 5`},
		{"dead group leader in a living session", []Row{row(2, 1, 2, 2), row(6, 2, 5, 2), row(7, 2, 5, 2)}, `
pid 1 forks pid 2
pid 2 starts session 2
pid 2 forks pid 6
pid 2 forks pid 7
pid 6 forks helper 5
pid 5 joins group 5
pid 6 joins group 5
pid 7 joins group 5
pid 5 exits with status 0x0
pid 6 waits for pid 5`},
		{"orphan of init, deep session", []Row{row(2, 1, 2, 2), row(3, 2, 3, 3), row(9, 1, 3, 3)}, `
pid 1 forks pid 2
pid 2 starts session 2
pid 2 forks pid 3
pid 3 starts session 3
pid 3 forks helper 32767
pid 32767 forks pid 9
pid 32767 exits with status 0x0
pid 3 waits for pid 32767`},
		{"orphan under a subreaper that is one no more", []Row{row(2, 1, 2, 2), row(3, 2, 3, 3), row(4, 3, 4, 4), row(9, 2, 4, 4)}, `
pid 1 forks pid 2
pid 2 starts session 2
pid 2 forks pid 3
pid 3 starts session 3
pid 3 forks pid 4
pid 4 starts session 4
pid 4 forks helper 32767
pid 32767 forks pid 9
pid 2 becomes a subreaper
pid 32767 exits with status 0x0
pid 4 waits for pid 32767
pid 2 is a subreaper no more`},
		{"zombie that leads a session with members",
			[]Row{row(2, 1, 2, 2, subreaper), row(3, 2, 3, 3, zombie(0x100)), row(4, 2, 3, 3)}, `
pid 1 forks pid 2
pid 2 starts session 2
pid 2 forks pid 3
pid 3 starts session 3
pid 3 forks pid 4 +parent
pid 2 becomes a subreaper
pid 3 exits with status 0x100`},
		{"pid namespace in the session of outside", []Row{row(2, 1, 2, 2), row(3, 2, 2, 2, in(3, ids{1}, nil, nil)),
			row(5, 3, 2, 2, in(3, ids{3}, nil, nil)), row(6, 3, 6, 6, in(3, ids{4}, ids{4}, ids{4}))}, `
pid 1 forks pid 2
pid 2 starts session 2
pid 2 forks pid 3/1 +newpid
pid 3 forks pid 5/3
pid 3 forks pid 6/4
pid 6 starts session 6`},
		{"pid namespace as a job of a shell", []Row{row(2, 1, 2, 2), row(3, 2, 3, 2), row(4, 3, 3, 2, in(4, ids{1}, nil, nil)),
			row(5, 4, 3, 2, in(4, ids{2}, nil, nil)), row(6, 4, 6, 2, in(4, ids{3}, ids{3}, nil))}, `
pid 1 forks pid 2
pid 2 starts session 2
pid 2 forks pid 3
pid 3 joins group 3
pid 3 forks pid 4/1 +newpid
pid 4 joins group 3, by pid 3
pid 3 joins group 2
pid 4 forks pid 5/2
pid 4 forks pid 6/3
pid 3 joins group 3
pid 6 joins group 6`},
		{"dead session leader and orphan in a pid namespace", []Row{row(2, 1, 2, 2, in(2, ids{1}, ids{1}, ids{1})),
			row(5, 2, 4, 4, in(2, ids{3}, ids{2}, ids{2}))}, `
pid 1 forks pid 2/1 +newpid
pid 2 starts session 2
pid 2 forks helper 4/2
pid 4 starts session 4
pid 4 forks pid 5/3 +parent
pid 4 exits with status 0x0
pid 2 waits for pid 4`},
		{"helpers keep away from threads and dead ids",
			[]Row{row(2, 1, 2, 2, threads(2, 32767, 32766)), row(3, 2, 32765, 2), row(4, 1, 32764, 2), row(5, 4, 5, 5), row(6, 2, 5, 5)}, `
pid 1 forks pid 2
pid 2 starts session 2
pid 2 forks pid 3
pid 2 forks helper 32763
pid 32763 forks pid 4
pid 4 forks pid 5
pid 5 starts session 5
pid 5 forks helper 32762
pid 32762 forks pid 6
pid 2 becomes a subreaper
pid 32762 exits with status 0x0
pid 5 waits for pid 32762
pid 2 is a subreaper no more
pid 32763 exits with status 0x0
pid 2 waits for pid 32763
pid 4 forks helper 32764
pid 32764 joins group 32764
pid 3 forks helper 32765
pid 32765 joins group 32765
pid 3 joins group 32765
pid 4 joins group 32764
pid 32764 exits with status 0x0
pid 4 waits for pid 32764
pid 32765 exits with status 0x0
pid 3 waits for pid 32765`},
	} {
		t.Run(c.name, func(t *testing.T) {
			steps, err := Compile(c.rows, Options{})
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			for _, s := range steps {
				got.WriteString("\n" + s.String())
			}
			if d := cmp.Diff(strings.Split(c.want, "\n"), strings.Split(got.String(), "\n")); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
			same(t, c.rows, Options{})
		})
	}
}

// same builds rows in the model and compares.
func same(t *testing.T, rows []Row, o Options) {
	t.Helper()
	got, err := rebuild(rows, o)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(normal(rows), got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

// TestBuilds are trees whose steps are long; the model tells that they are right.
func TestBuilds(t *testing.T) {
	for _, c := range []struct {
		name   string
		noInit bool
		rows   []Row
	}{
		{"nothing", false, nil},
		{"two members of swapped groups", false, []Row{row(2, 1, 2, 2), row(5, 2, 6, 2), row(6, 2, 5, 2)}},
		{"back to the group of a dead session leader", false, []Row{row(5, 1, 2, 2), row(6, 5, 5, 2)}},
		{"zombies of all sorts", false, []Row{row(2, 1, 2, 2), row(3, 2, 3, 2, zombie(9)), row(4, 2, 3, 2), row(5, 2, 5, 5, zombie(0x8b))}},
		{"command is pid 1", true, []Row{row(1, 0, 1, 1), row(2, 1, 2, 1)}},
		{"sessions in each other's parents", false, []Row{row(2, 1, 2, 2), row(3, 1, 3, 3), row(4, 3, 2, 2), row(5, 2, 3, 3)}},
		{"clone child", false, []Row{row(2, 1, 2, 2), row(3, 2, 2, 2, signal(0)), row(4, 2, 4, 4, signal(unix.SIGUSR1))}},
		{"clone child of a dead session leader", false, []Row{row(2, 1, 2, 2), row(4, 2, 3, 3, signal(unix.SIGUSR1)), row(5, 2, 3, 3)}},
		{"parent and child share all", false, []Row{
			row(2, 1, 2, 2, vm(7), sighand(7), files(7), fs(7)), row(3, 2, 2, 2, vm(7), sighand(7), files(7), fs(7))}},
		{"siblings share memory", false, []Row{row(2, 1, 2, 2), row(3, 2, 2, 2, vm(7)), row(4, 2, 2, 2, vm(7))}},
		{"siblings share files, each a session leader", false, []Row{row(2, 1, 2, 2), row(3, 2, 3, 3, files(7)), row(4, 2, 4, 4, files(7))}},
		{"the file table is carried by one that has its own", false, []Row{
			row(2, 1, 2, 2, fs(7)), row(3, 2, 3, 3), row(4, 3, 4, 4, fs(7))}},
		{"two classes in one family", false, []Row{row(2, 1, 2, 2, files(1)), row(3, 2, 2, 2, files(2)),
			row(4, 2, 2, 2, files(1)), row(5, 3, 2, 2, files(2))}},
		{"a dead session leader below one that moves up", false, []Row{row(2, 1, 2, 1), row(7, 1, 1, 1, fs(3)), row(8, 2, 8, 9, fs(3))}},
		{"memory of a zombie", false, []Row{row(2, 1, 2, 2, zombie(0)), row(3, 1, 3, 1, vm(7)), row(5, 1, 2, 2, vm(7))}},
	} {
		t.Run(c.name, func(t *testing.T) { same(t, c.rows, Options{NoInit: c.noInit}) })
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name     string
		o        Options
		rows     []Row
		sentinel error
		want     string
	}{
		{"session from outside", Options{}, []Row{row(2, 1, 0, 0)}, failure.ErrUnsupported,
			"its session was started outside the container (pid 2 has session 0)"},
		{"group from outside", Options{}, []Row{row(2, 1, 0, 1)}, failure.ErrUnsupported,
			"its process group was made outside the container (pid 2 has group 0)"},
		{"session from outside, no init", Options{NoInit: true}, []Row{row(1, 0, 1, 1), row(2, 0, 0, 0)}, failure.ErrUnsupported,
			"its session was started outside the container (pid 2 has session 0)"},
		{"pid 1 elsewhere", Options{NoInit: true}, []Row{row(1, 0, 1, 2)}, failure.ErrDamaged,
			"pid 1 is in session 2, which it did not start"},
		{"pid too high", Options{PIDMax: 100}, []Row{row(99, 1, 99, 99), row(100, 1, 100, 100)}, failure.ErrUnsupported,
			"pid 100 is too high: ids end below kernel.pid_max, which is 100 here"},
		{"group too high", Options{PIDMax: 100}, []Row{row(2, 1, 101, 2)}, failure.ErrUnsupported,
			"group 101 of pid 2 is too high: ids end below kernel.pid_max, which is 100 here"},
		{"session too high", Options{PIDMax: 100}, []Row{row(2, 1, 2, 102)}, failure.ErrUnsupported,
			"session 102 of pid 2 is too high: ids end below kernel.pid_max, which is 100 here"},
		{"thread too high", Options{PIDMax: 100}, []Row{row(2, 1, 2, 2, threads(2, 103))}, failure.ErrUnsupported,
			"thread 103 of pid 2 is too high: ids end below kernel.pid_max, which is 100 here"},
		{"signal lost by reparenting", Options{}, []Row{row(2, 1, 2, 2), row(3, 2, 3, 3), row(4, 1, 3, 3, signal(0))}, failure.ErrUnsupported,
			"pid 4 has exit signal 0, but its parent 1 cannot have forked it"},
		{"names", Options{}, []Row{row(2, 1, 2, 2, vm(7), comm("sh")), row(3, 2, 3, 3, comm("make")), row(4, 3, 3, 3, vm(7), comm("cc"))}, failure.ErrUnsupported,
			"pid 2 (sh) and pid 4 (cc) share their memory, with pid 3 (make) between them, which cannot pass it on"},
		{"memory across a process", Options{}, []Row{row(2, 1, 2, 2, vm(7)), row(3, 2, 3, 3), row(4, 3, 3, 3, vm(7))}, failure.ErrUnsupported,
			"pid 2 and pid 4 share their memory, with pid 3 between them, which cannot pass it on"},
		{"no parent", Options{}, []Row{row(2, 7, 2, 2)}, failure.ErrDamaged, "pid 2 has parent 7, which is no process of the tree"},
		{"zombie parent", Options{}, []Row{row(2, 1, 2, 2, zombie(0)), row(3, 2, 2, 2)}, failure.ErrDamaged,
			"pid 3 has parent 2, which is a zombie and can have no children"},
		{"loop", Options{}, []Row{row(2, 3, 2, 2), row(3, 2, 2, 2)}, failure.ErrDamaged, "pid 2 is its own ancestor"},
		{"twice", Options{}, []Row{row(2, 1, 2, 2), row(2, 1, 2, 2)}, failure.ErrDamaged, "pid 2 is there twice"},
		{"thread id of another", Options{}, []Row{row(2, 1, 2, 2, threads(2, 3)), row(3, 2, 2, 2)}, failure.ErrDamaged,
			"id 3 belongs to pid 2 and to pid 3"},
		{"leader outside its own session's group", Options{}, []Row{row(2, 1, 3, 2)}, failure.ErrDamaged,
			"pid 2 leads session 2, but is in group 3"},
		{"group in two sessions", Options{}, []Row{row(2, 1, 2, 2), row(3, 1, 3, 3), row(4, 2, 9, 2), row(5, 3, 9, 3)}, failure.ErrDamaged,
			"group 9 is in session 2 and in session 3 (pid 5)"},
		{"handlers without memory", Options{}, []Row{row(2, 1, 2, 2, sighand(7)), row(3, 2, 2, 2, sighand(7))}, failure.ErrDamaged,
			"pid 2 and pid 3 share signal handlers, but not memory"},
		{"parent outside of its pid namespace", Options{}, []Row{row(2, 1, 2, 2), row(3, 2, 3, 3, in(3, ids{1}, ids{1}, ids{1})), row(4, 2, 4, 4, in(3, ids{2}, ids{2}, ids{2}))},
			failure.ErrUnsupported, "pid 4 lives in the pid namespace of pid 3, and its parent 2 outside of it (setns(2), as nsenter(1) does, or"},
		{"first process in a group made inside", Options{}, []Row{row(2, 1, 2, 2), row(3, 2, 4, 2, in(3, ids{1}, ids{2}, nil)), row(4, 3, 4, 2, in(3, ids{2}, ids{2}, nil))},
			failure.ErrUnsupported, "pid 3, the first of its pid namespace, is in group 4, which was made inside: Linux never ends such a namespace"},
		{"first process killed by a fault", Options{}, []Row{row(2, 1, 2, 2), row(3, 2, 3, 3, in(3, ids{1}, ids{1}, ids{1}), zombie(unix.WaitStatus(unix.SIGSEGV)))},
			failure.ErrUnsupported, "pid 3, the first of its pid namespace, was killed by signal 11, which cannot be sent to it again"},
		{"two groups of outside", Options{}, []Row{row(2, 1, 2, 2), row(3, 2, 3, 2), row(4, 2, 4, 2),
			row(5, 2, 3, 2, in(5, ids{1}, nil, nil)), row(6, 5, 4, 2, in(5, ids{2}, nil, nil))},
			failure.ErrUnsupported, "pid 6 is in group 4, which was made outside of its pid namespace, and not all there are"},
		{"pid namespace of nobody", Options{}, []Row{row(2, 1, 2, 2, in(7, ids{1}, nil, nil))}, failure.ErrDamaged,
			"pid 2 lives in the pid namespace of pid 7, which is not the first of any"},
		{"first process with another number", Options{}, []Row{row(2, 1, 2, 2, in(2, ids{3}, nil, nil))}, failure.ErrDamaged,
			"pid 2 is the first of its pid namespace, but not pid 1 there"},
		{"pid namespace in itself", Options{}, []Row{row(2, 3, 2, 2, in(2, ids{1}, nil, nil)), row(3, 2, 2, 2, in(3, ids{1}, nil, nil))}, failure.ErrDamaged,
			"pid 2 is its own ancestor"},
		{"parent in its own namespace", Options{}, []Row{row(2, 1, 2, 2), row(3, 4, 2, 2, in(3, ids{1}, nil, nil)), row(4, 2, 2, 2, in(3, ids{2}, nil, nil))}, failure.ErrDamaged,
			"pid 3 is the first of a pid namespace that lies in itself"},
		{"too many numbers", Options{}, []Row{row(2, 1, 2, 2, in(0, ids{1}, nil, nil))}, failure.ErrDamaged,
			"pid 2 has ids in 1 pid namespaces below the container's, and lives in number 0"},
		{"pid 1 twice", Options{}, []Row{row(1, 0, 1, 1)}, failure.ErrDamaged, "pid 1 cannot be a process of the tree"},
		{"pid 1 missing", Options{NoInit: true}, []Row{row(2, 1, 2, 2)}, failure.ErrDamaged, "pid 1 is missing"},
		{"unreachable", Options{}, []Row{row(2, 1, 2, 2), row(3, 2, 3, 3), row(4, 3, 3, 3), row(5, 4, 2, 2), row(6, 2, 2, 2)},
			failure.ErrUnsupported, "no order of births gives this tree: pid 5, with parent 4 and session 2, fits nowhere"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Compile(c.rows, c.o)
			if !errors.Is(err, c.sentinel) || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("got %v\nwant %v", err, c.want)
			}
		})
	}
}

// TestLarge: a big tree of the usual shapes compiles in no time.
func TestLarge(t *testing.T) {
	var rows []Row
	id := pidns.VPID(2)
	add := func(ppid, pgid, sid pidns.VPID) pidns.VPID {
		if pgid == 0 {
			pgid = id
		}
		if sid == 0 {
			sid = id
		}
		rows = append(rows, row(id, ppid, pgid, sid))
		id++
		return id - 1
	}
	for range 300 {
		shell := add(1, 0, 0)
		job := add(shell, 0, shell)
		add(job, job, shell)
		add(1, job, shell) // orphan
		daemon := add(1, id-1+20000, 0+20000+id)
		rows[len(rows)-1].PGID = rows[len(rows)-1].SID // its leader is dead
		add(daemon, rows[len(rows)-1].PGID, rows[len(rows)-1].SID)
	}
	start := time.Now()
	same(t, rows, Options{PIDMax: 1 << 22})
	t.Logf("%d processes: %v with the model", len(rows), time.Since(start))
}

func BenchmarkCompile(b *testing.B) {
	var rows []Row
	for i := pidns.VPID(2); i < 600; i += 3 {
		rows = append(rows, row(i, 1, i, i), row(i+1, i, i+1, i), row(i+2, 1, i+1, i))
	}
	for b.Loop() {
		if _, err := Compile(rows, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
