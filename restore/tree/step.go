package tree

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"ckpt/pidns"
)

// Step is one thing for the executor to do. Each acts on a process that
// exists when its turn comes.
type Step interface {
	fmt.Stringer
	step()
}

// Fork: Parent calls clone3(2) with set_tid Child and these flags (of
// CLONE_VM, CLONE_FILES, CLONE_FS, CLONE_SIGHAND, CLONE_PARENT,
// CLONE_NEWPID). The child has the session and group Parent has at that moment.
type Fork struct {
	Parent, Child pidns.VPID
	// Thread of Parent makes the call, which is to be made before if it is not
	// there; 0: the leading thread.
	Thread pidns.VPID
	// Nested are the child's ids in the pid namespaces below the container's,
	// outer ones first.
	Nested []pidns.VPID
	Flags  uint64
	// ExitSignal is clone_args.exit_signal. It is 0 with CLONE_PARENT, as
	// clone3 demands: the child then gets Parent's own exit signal.
	ExitSignal unix.Signal
	// Helper: the child is none of the rows and will Exit.
	Helper bool
}

// Enter: the helper P enters a user namespace, the Row.Owner of For, which it
// will fork.
type Enter struct {
	P, For pidns.VPID
	User   uint32
}

// Setsid: P calls setsid(2).
type Setsid struct{ P pidns.VPID }

// Setpgid: P comes into the group PGID, which may be P: it calls setpgid(2)
// itself, or By does, its parent, for P has no number for a group made outside
// of its pid namespace.
type Setpgid struct{ P, PGID, By pidns.VPID }

// Exit: P dies with wait status Status: a helper, or a row that is a zombie.
type Exit struct {
	P      pidns.VPID
	Status unix.WaitStatus
}

// Reap: Parent waits for Child, which has died (with __WALL: a helper can
// have an exit signal other than SIGCHLD).
type Reap struct{ Parent, Child pidns.VPID }

// Unshare: P calls unshare(2) with CLONE_FILES, CLONE_FS or both.
type Unshare struct {
	P     pidns.VPID
	Flags uint64
}

// Subreaper: P calls prctl(PR_SET_CHILD_SUBREAPER, On).
type Subreaper struct {
	P  pidns.VPID
	On bool
}

// Settled parts the births from the ends (Options.Linger): all that will live
// are there, and zombies and dead leaders are not dead yet.
type Settled struct{}

func (Fork) step()      {}
func (Enter) step()     {}
func (Setsid) step()    {}
func (Setpgid) step()   {}
func (Exit) step()      {}
func (Reap) step()      {}
func (Unshare) step()   {}
func (Subreaper) step() {}
func (Settled) step()   {}

func (s Fork) String() string {
	who := "pid"
	if s.Helper {
		who = "helper"
	}
	nested := ""
	for _, id := range s.Nested {
		nested += fmt.Sprintf("/%d", id)
	}
	thread := ""
	if s.Thread != 0 {
		thread = fmt.Sprintf(", thread %d,", s.Thread)
	}
	return fmt.Sprintf("pid %d%s forks %s %d%s%s", s.Parent, thread, who, s.Child, nested, flagNames(s.Flags))
}
func (s Enter) String() string {
	return fmt.Sprintf("pid %d enters user namespace %d for pid %d", s.P, s.User, s.For)
}
func (s Setsid) String() string { return fmt.Sprintf("pid %d starts session %d", s.P, s.P) }
func (s Setpgid) String() string {
	by := ""
	if s.By != 0 {
		by = fmt.Sprintf(", by pid %d", s.By)
	}
	return fmt.Sprintf("pid %d joins group %d%s", s.P, s.PGID, by)
}
func (s Exit) String() string    { return fmt.Sprintf("pid %d exits with status %#x", s.P, int(s.Status)) }
func (s Reap) String() string    { return fmt.Sprintf("pid %d waits for pid %d", s.Parent, s.Child) }
func (s Unshare) String() string { return fmt.Sprintf("pid %d unshares%s", s.P, flagNames(s.Flags)) }
func (s Subreaper) String() string {
	if s.On {
		return fmt.Sprintf("pid %d becomes a subreaper", s.P)
	}
	return fmt.Sprintf("pid %d is a subreaper no more", s.P)
}

func (s Settled) String() string { return "everybody is born" }

// Threads gives, of every process that is forked, the thread of its parent that
// it is a child of; 0 is the leading one. An orphan goes to that one, too.
func Threads(steps []Step) map[pidns.VPID]pidns.VPID {
	by := map[pidns.VPID]pidns.VPID{}
	for _, step := range steps {
		f, ok := step.(Fork)
		switch {
		case !ok:
		case f.Flags&unix.CLONE_PARENT != 0:
			by[f.Child] = by[f.Parent]
		default:
			by[f.Child] = f.Thread
		}
	}
	return by
}

func flagNames(flags uint64) string {
	var b strings.Builder
	for _, f := range []struct {
		flag uint64
		name string
	}{{unix.CLONE_VM, "vm"}, {unix.CLONE_FILES, "files"}, {unix.CLONE_FS, "fs"},
		{unix.CLONE_SIGHAND, "sighand"}, {unix.CLONE_PARENT, "parent"}, {unix.CLONE_NEWPID, "newpid"}} {
		if flags&f.flag != 0 {
			b.WriteString(" +" + f.name)
		}
	}
	return b.String()
}
