// Package kind holds the contracts that every kind of kernel object has to
// meet to be saved and brought back. A kind is a value of functions, built by
// its package's Kind function anew for every dump and restore, so that state
// it keeps between calls lives exactly as long as the run.
package kind

import (
	"context"
	"os"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"

	"ckpt/tracee"
)

// File is one sort of open file description.
//
// Errors are plain (fmt.Errorf("…: %w")); the driver adds process and
// descriptor. A refusal is made with failure.Unsupportedf, its way out with
// failure.WithHint.
type File struct {
	// Name as a user would say it: "unix socket".
	Name string
	// Type says which entries of files.img this kind restores.
	Type fdinfo.FdTypes
	// Restores narrows Type down where two kinds share one; nil: all of Type.
	Restores func(*fdinfo.FileEntry) bool
	// Owns tells whether the descriptor is of this kind. It must not block
	// and must not change anything. The first kind of all.Files that owns wins.
	Owns func(*Desc) bool
	// Refuse looks, without changing anything, whether Dump would refuse.
	// It runs on the running container too (ckpt check), once Proc.Fds is
	// complete for every process. May be nil.
	Refuse func(*Dump, *Desc) error
	// Dump saves one open file description. The processes are stopped. Dump
	// leaves the object as it was. d.ID is the id the entry must carry.
	Dump func(*Dump, *Desc) (*fdinfo.FileEntry, error)
	// Finish runs once after Dump saw every descriptor: queues, pairs,
	// whatever needs the whole view. May be nil.
	Finish func(*Dump) error
	// Commit runs when all is saved, before the image gets its name, unless the
	// container is to go on: what must be there when the container has ended. An
	// error keeps it from being ended. May be nil.
	Commit func(*Dump) error
	// End runs once the image is safe and the container is about to be ended:
	// what must not be seen of its end from outside. May be nil.
	End func(*Dump) error
	// Move puts what to gives in the place of every path of a file of the file
	// system in the entry, before anything else sees it. That of the entry's
	// RegFileEntry, if it has one, has been put there. May be nil: there is no other.
	Move func(e *fdinfo.FileEntry, to func(path string) string) error
	// Restore makes the object. It runs on a thread that is in the
	// container's mount, network, ipc and uts namespaces, after every
	// process exists (Restore.Table knows their host pids). The file must
	// have its status flags, position and owner (RestoreOwner) set.
	Restore func(*Restore, *fdinfo.FileEntry) (*os.File, error)
	// Check tells, without making anything, why Restore would fail on this
	// machine (ckpt check DIR). It runs outside any container. May be nil.
	Check func(*Restore, *fdinfo.FileEntry) error
	// Link is a second pass, once every file has been made: things that
	// point at others (descriptors queued in sockets). May be nil.
	Link func(*Restore, *fdinfo.FileEntry, *os.File) error
	// Release runs once when nothing can fail any more, right before the last
	// process, without which the others do not live, is let go: it lets go what
	// had to be kept back till then. then, if not nil, runs right afterwards: what
	// takes its time. May be nil.
	Release func(*Restore) (then func() error, err error)
	// Inside adds calls that run in the first process that holds the file,
	// after its whole descriptor table is in place; fd is its number there.
	// For what the kernel records by the caller's descriptor number or
	// identity (epoll). May be nil.
	Inside func(r *Restore, e *fdinfo.FileEntry, fd int, s *tracee.Script) error
	// Saves, Refuses, Limits and Needs are what a user is told of the kind
	// (ckpt check --kinds, docs/kinds.md), each a sentence or "": what comes
	// back; what Refuse, Dump or Finish refuses; what is not kept; the kernel or
	// the rights that it takes beyond what ckpt needs at all.
	Saves, Refuses, Limits, Needs string
	// Unseen is what Dump or Finish may refuse and Refuse cannot see, as a check
	// names it to the user; "": nothing that programs ordinarily have.
	Unseen string
}

// Process is one sort of state that every process has.
//
// Where processes share the object (clone flags), Dump sees it in each;
// Restore acts only where Target.Owns… says so.
type Process struct {
	Name string
	// Observe reads what /proc and ptrace show. No code runs in the process.
	// It runs on the running container too (ckpt check). May be nil.
	Observe func(*Dump, *Proc) error
	// Ask adds calls that run in the leading thread; the function it returns
	// reads their results after they ran. May be nil.
	Ask func(*Dump, *Proc, *tracee.Script) (read func() error, err error)
	// Late runs when nothing will run in any process any more: what the
	// saving itself could have changed (pending signals). It goes in the
	// reverse order of Restore, threads first: what is restored on top of
	// something is read first. May be nil.
	Late func(*Dump, *Proc) error
	// Bulk copies what is large, last of all, and tells how many bytes it
	// wrote. It ends early with ctx. May be nil.
	Bulk func(context.Context, *Dump, *Proc) (bytes uint64, err error)
	// Lead adds calls to s for a bare child that has just become the leader of
	// its session: what the processes of the session inherit, none of which
	// exists yet. fetch adds the call that brings in a file of ckpt; its
	// result, for Script.Feed, is a descriptor that is closed before the child
	// gets its own. May be nil.
	Lead func(r *Restore, t *Target, s *tracee.Script, fetch func(*os.File) tracee.Step) error
	// Leave adds calls to s for a bare child that is about to leave the
	// container's user namespace for one made inside, on behalf of t: what t
	// has and nobody in there could give it. May be nil.
	Leave func(r *Restore, t *Target, s *tracee.Script) error
	// Arrive adds calls to s for a bare child that has come into its own user
	// namespace, made inside: who it is there, for all that will be run in it.
	// It must keep all capabilities there. May be nil.
	Arrive func(r *Restore, t *Target, s *tracee.Script) error
	// Inherits tells whether t needs memory that its bare child has had from
	// birth, as all have, and would lose by execve(2). May be nil.
	Inherits func(t *Target) bool
	// Bequeath gives what makes in the bare child of t what those born of it are to
	// inherit, before the first of them is; nil: there is nothing. It runs the calls
	// in that child. Target.Heir is set. Bequeath itself runs where File.Restore
	// does. May be nil.
	Bequeath func(r *Restore, t *Target) (func(tracee.Runner) error, error)
	// Sound tells what in the entries of t no program can have had: of an image
	// that somebody has made up, or of one that ckpt itself spoilt. It is asked before
	// anything is made, and of a check. May be nil.
	Sound func(t *Target) error
	// Restore adds calls to the scripts of the process being rebuilt. May be nil.
	Restore func(*Restore, *Target) error
	// Check is as File.Check. May be nil.
	Check func(*Restore, *Target) error
	// Saves and the like: see File.Saves.
	Saves, Refuses, Limits, Needs string
	Unseen                        string // by Observe, see File.Unseen
}

// Thread is one sort of state that every thread has. As Process, a thread each.
type Thread struct {
	Name    string
	Observe func(*Dump, *Proc, *Task) error
	Ask     func(*Dump, *Proc, *Task, *tracee.Script) (read func() error, err error)
	Late    func(*Dump, *Proc, *Task) error
	// Sound is as Process.Sound, of threads that live. May be nil.
	Sound   func(*Target, *TargetThread) error
	Restore func(*Restore, *Target, *TargetThread) error
	// Check is as File.Check, of a zombie and of a leading thread that has ended, too.
	Check func(*Restore, *Target, *TargetThread) error
	// Resume prepares a thread that goes on running after a dump, or after
	// one that failed at any point after the stop: only Task.Traced,
	// Task.Regs and Task.Before are sure to be set. May be nil.
	Resume func(*Proc, *Task) error
	// Final gives a rebuilt thread its own state for good. It may run calls
	// at the site; afterwards no code of ckpt runs in the thread, but for one
	// munmap(2) in the leading one, after which its registers are set again.
	// May be nil.
	Final func(tracee.Site, *Target, *TargetThread) error
	// End runs once the image is safe and the container is about to be ended: to
	// undo in a thread what its end would do to that which outlives it. No code
	// runs in it any more. May be nil.
	End func(*Dump, *Proc, *Task) error
	// ObserveDead and RestoreDead are Observe and Restore for a zombie, and for
	// a leading thread that has ended while others go on: the calls are run by
	// who then ends in its place. May be nil.
	ObserveDead func(*Dump, *Proc, *Task) error
	RestoreDead func(*Restore, *Target, *TargetThread) error
	// Unseen is what of a thread that runs Observe and Ask cannot see, and may
	// refuse, as a check names it; "": nothing. May be nil.
	Unseen func(*Task) string
	// Saves and the like: see File.Saves.
	Saves, Refuses, Limits, Needs string
}

// Namespace is the contents of one sort of namespace of the container.
type Namespace struct {
	Name string
	// Sort is how /proc/PID/ns calls it ("uts"). Those that processes have made
	// inside are saved and filled as the container's own is. "": there is only
	// the container's.
	Sort string
	// Ask saves what takes calls in the processes themselves (Dump.As), or what
	// processes are told of when it is looked at. It runs before their pending
	// signals are read, for the container's own namespace only. May be nil.
	Ask func(*Dump) error
	// Dump saves it; calls inside the namespace go through Dump.Inside.
	Dump func(*Dump) error
	// Restore fills the new namespace, before any process is rebuilt. It
	// runs on a thread that is in it.
	Restore func(*Restore) error
	// Born fills what the kernel records its callers of: it runs when all
	// processes are there, bare as yet (Restore.As), and those that have ended
	// (Dump.Ended). Not for one made inside. May be nil.
	Born func(*Restore) error
	// Finish runs after every process has been rebuilt, still before any
	// runs: what their rebuilding could have changed. May be nil.
	Finish func(*Restore) error
	// Saves and the like: see File.Saves.
	Saves, Refuses, Limits, Needs string
	Unseen                        string // while the processes run, see File.Unseen
}
