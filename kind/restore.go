package kind

import (
	"log/slog"
	"os"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/fown"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/fs"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/mm"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/pstree"

	"ckpt/image"
	"ckpt/pidns"
	"ckpt/procfs"
	"ckpt/tracee"
)

// Restore is one restore: what every kind may know of it.
type Restore struct {
	Log      *slog.Logger
	In       *image.Reader
	Manifest *image.Manifest
	// Entries are the entries of files.img by id, Extras those of ckpt-files.img.
	Entries map[uint32]*fdinfo.FileEntry
	Extras  map[uint32]*image.FileExtra
	// Namespace is the id of the namespace that a kind of namespaces fills; 0
	// for the container's own. For one made inside, Inside runs calls in the
	// first process in it, which is bare as yet.
	Namespace uint32
	// Targets are the processes being rebuilt, parents first.
	Targets []*Target
	// HostPID translates a virtual id of the container.
	HostPID func(pidns.VPID) (pidns.HostPID, bool)
	// Chain is what an id of the container is in nested pid namespaces.
	Chain func(pidns.VPID) pidns.Chain
	// Privileged: ckpt is root in the first user namespace.
	Privileged bool
	// SuspendsSeccomp: and it is under no seccomp filter, so that it may read and
	// suspend those of others.
	SuspendsSeccomp bool
	// Bear makes a thread that is not there yet, as none but the leading ones
	// are while files are made: for what refers to a thread itself (a pidfd).
	// A process is there. May be nil.
	Bear func(pidns.VPID) error
	// Groups are the supplementary groups of whoever restores, by the numbers
	// they have outside the container's user namespace.
	Groups []uint32
	// AllowChanged: paths whose files may differ from what the image says.
	AllowChanged func(path string) bool
	// MovedFrom are the paths that stand in the image, by those that have been put
	// in their place (File.Move). May be nil.
	MovedFrom map[string]string
	// LogFile is the new container's log.
	LogFile *os.File
	// HostProc is the host's /proc: "self/fd/N" under it reopens a
	// descriptor of ckpt, although the thread sees the container's /proc.
	HostProc *os.File
	// Memory counts the memory of processes that is there again. nil: nobody looks.
	Memory *image.Phase
	// Names is told of the names in the file system that change, before they do: a
	// restore that is killed leaves it to others to undo that.
	Names Names
	// Inside runs calls in the container's init.
	Inside func(build func(*tracee.Script) error, read func(*tracee.Script) error) error
	// As runs calls in a process that is still bare, as all are while files
	// are made and linked, or in the container's init: for what the kernel
	// records of its caller (SO_PEERCRED). One that has ended (Dump.Ended) is
	// there for that long, too. Acts tells whether v can be run calls in. May be
	// nil, both.
	As   func(v pidns.VPID, build func(*tracee.Script) error, read func(*tracee.Script) error) error
	Acts func(v pidns.VPID) bool
	// Ended makes an ended process be there until all files are made and
	// linked, by the number that Dump.Ended gave; HostPID knows the id it
	// gives. May be nil.
	Ended func(number uint32) (pidns.VPID, error)
	// Stay makes an ended process be there until every Late script has run, and
	// tells whether it can: a zombie, or the dead leader of a group or session,
	// cannot. May be nil.
	Stay func(pidns.VPID) bool
	// Take adds the call that brings f into vpid 1 or a process that is still
	// bare; its result is the descriptor there.
	Take func(s *tracee.Script, f *os.File) tracee.Step
	// File makes, or gives again, the open file description of an entry.
	// The driver owns and closes it.
	File func(id uint32) (*os.File, error)
	// Reserve finds size bytes of addresses that no process of the image
	// uses; Kept are all ranges so reserved, in order of address, the scripts'
	// own among them: a process being rebuilt must not touch them until its
	// last script.
	Reserve func(size uint64) (Range, error)
	Kept    []Range
	// Park is a small one of them, for what has to be moved out of the way.
	Park Range
	// Undo registers what takes back a change that outlives the processes
	// (a socket's name in the file system). The last registered runs first.
	Undo func(what string, fn func() error)

	clocks *Clocks // read once, see ClockOffset
}

// Target is a process being rebuilt: a bare child at the right ids, which
// runs the scripts that kinds add to.
//
// Order: Main runs in the leading thread of each process (memory and
// descriptors are already in place), then each thread's own script, then,
// once all of that is done in every process, Late in the leading thread.
type Target struct {
	VPID    pidns.VPID
	Chain   pidns.Chain // nil where it lives in the container's own pid namespace
	Space   pidns.VPID  // the pid namespace it lives in, by the id of the first process in it
	Host    pidns.HostPID
	Entry   *pstree.PstreeEntry
	TC      *criu_core.TaskCoreEntry
	IDs     *criu_core.TaskKobjIdsEntry
	MM      *mm.MmEntry
	FSE     *fs.FsEntry
	Fds     []*fdinfo.FdinfoEntry
	Extra   *image.Task
	Threads []*TargetThread // leader first
	// Zombie: nothing is rebuilt but its ids, name and exit status.
	Zombie bool
	// OwnsVM ...: false when an earlier target shares the object and has
	// rebuilt it already.
	OwnsVM, OwnsFiles, OwnsFS, OwnsSighand bool

	Main *tracee.Script
	Late *tracee.Script
	// Check holds what is to be verified in the results of Main.
	Check []func() error
	// StubMaps are the mappings of the bare child.
	StubMaps []procfs.Map
	// Heir: its bare child has inherited what was bequeathed to that of this
	// process, by birth or as the same one; 0: nothing.
	Heir pidns.VPID
	// Fetch adds calls to s that bring f into the process, and gives the
	// descriptor number it will have there; Drop adds the call that closes it
	// again. The numbers are known beforehand, since the whole table is.
	Fetch func(s *tracee.Script, f *os.File) (fd uint64)
	Drop  func(s *tracee.Script, fd uint64)
}

// Range is [Start, End) of addresses.
type Range struct{ Start, End uint64 }

// Len is the range's size in bytes.
func (r Range) Len() uint64 { return r.End - r.Start }

// TargetThread is a thread being rebuilt.
type TargetThread struct {
	VTID   pidns.VPID
	Chain  pidns.Chain // as the process's
	Traced *tracee.Thread
	Core   *criu_core.CoreEntry
	Extra  *image.Thread
	// Script runs in the thread once; the last things (seccomp) go to Last,
	// which runs after every Late script.
	Script *tracee.Script
	Last   *tracee.Script
	// Regs are set when all scripts have run.
	Regs tracee.Regs
}

// Names is Restore.Names. Modes, users and groups are those of stat(2); of a name that
// is made the type alone counts.
type Names interface {
	Making(path string, mode uint32) error
	Removing(path string, mode, uid, gid uint32) error
}

// Thread is HostPID for what refers to a thread, or to a process, itself.
func (r *Restore) Thread(v pidns.VPID) (pidns.HostPID, bool, error) {
	if r.Bear != nil {
		if err := r.Bear(v); err != nil {
			return 0, false, err
		}
	}
	h, ok := r.HostPID(v)
	return h, ok, nil
}

// RestoreOwner sets F_SETOWN_EX and F_SETSIG of f as the image says.
func (r *Restore) RestoreOwner(f *os.File, e *fown.FownEntry) error { return restoreOwner(r, f, e) }

// Own is the id by which the process knows itself.
func (t *Target) Own() pidns.VPID { return own(t.Chain, t.VPID) }

// Own is the id by which the thread knows itself.
func (t *TargetThread) Own() pidns.VPID { return own(t.Chain, t.VTID) }

func own(c pidns.Chain, v pidns.VPID) pidns.VPID {
	if len(c) == 0 {
		return v
	}
	return c.Own()
}

// Known is the id by which t knows another process, group or session: one of
// its own pid namespace or of one below. ok is false where it cannot name it.
func (r *Restore) Known(t *Target, v pidns.VPID) (id pidns.VPID, ok bool) {
	level := len(t.Chain) - 1
	if level < 1 {
		return v, v != 0
	}
	c := r.Chain(v)
	if len(c) <= level {
		return 0, false
	}
	return c[level], true
}
