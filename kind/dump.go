package kind

import (
	"log/slog"
	"os"
	"slices"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/fown"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/fs"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/mm"
	"golang.org/x/sys/unix"

	"ckpt/image"
	"ckpt/pidns"
	"ckpt/procfs"
	"ckpt/tracee"
)

// Dump is one dump: what every kind may know of the container.
type Dump struct {
	Log *slog.Logger
	// Out is the image being written; nil while only checking.
	Out *image.Writer
	// Outside is what is to become of TCP connections that lead out of the
	// container.
	Outside Outside
	// External is what else may lead out of it.
	External External
	// Table is a name for an nftables table of this dump's. Leave notes that it
	// is about to outlive the container.
	Table string
	Leave func(table string) error
	// Over registers what ends with the dump: it is called right before the
	// processes go on, or when they have been ended and their files closed. The
	// last registered runs first.
	Over func(what string, fn func() error)
	// Console is the master of the container's own terminal, which ckpt serves; nil:
	// it has none. To those that Inside and Whole run calls in it is ConsoleFD. While
	// the processes are stopped nobody else uses it.
	Console   *os.File
	ConsoleFD uint64
	// Procs are the container's processes (without ckpt's init), parents first.
	Procs []*Proc
	// HostPID and VPID translate; ok is false for an id that is not the container's.
	HostPID func(pidns.VPID) (pidns.HostPID, bool)
	VPID    func(pidns.HostPID) (pidns.VPID, bool)
	// Home is a living task whose /proc directory shows what the processes
	// have around them: namespaces, mounts, root, clocks. Of a container it is
	// vpid 1, or, where its leading thread has exited, another of its threads;
	// for processes of ckpt's own pid namespace it is ckpt.
	Home pidns.HostPID
	// Namespace is the id of the namespace that a kind of namespaces saves; 0
	// for the container's own. For one made inside, Home is the first process
	// in it, and Inside runs calls in it.
	Namespace uint32
	// ContainerHome is Home of the container, whatever Namespace is.
	ContainerHome pidns.HostPID
	// MountsOf is a process whose root is that of the mount namespace through
	// which a file was opened. Where that is not one of those made inside it is
	// ContainerHome.
	MountsOf func(*Desc) pidns.HostPID
	// Adopted: ckpt did not start the processes, and there is no container as
	// yet. Outside of it are all but them.
	Adopted bool
	// Main is the container's command.
	Main pidns.VPID
	// OwnNet: the container has a network namespace of its own.
	OwnNet bool
	// Privileged: ckpt is root in the first user namespace.
	Privileged bool
	// SuspendsSeccomp: and it is under no seccomp filter, so that it may read and
	// suspend those of others.
	SuspendsSeccomp bool
	// SessionKeyring is the serial number of the session keyring that the
	// processes were given, if known.
	SessionKeyring int
	// Inside runs the calls that build adds in a bare child of ckpt's that is
	// in all of the container's namespaces but the pid namespace; Hand is its
	// host pid. It dies with ckpt, and what it holds with it. Not available
	// while checking (nil).
	Inside func(build func(*tracee.Script) error, read func(*tracee.Script) error) error
	Hand   pidns.HostPID
	// Peek is Inside, also while only checking: for calls that change nothing, and
	// that nobody in there notices. Hand is set by its first use.
	Peek func(build func(*tracee.Script) error, read func(*tracee.Script) error) error
	// Whole is Inside, with size bytes for the calls and their data, where none
	// of the calls may be left out once one has been made: they are made to
	// their end though ckpt die meanwhile, and then the child ends, too.
	Whole func(size uint64, build, read func(*tracee.Script) error) error
	// As lets use run calls in a process that is being saved, for what goes by
	// its caller, with size bytes for the calls and their data. Each script is
	// run to its end though ckpt die meanwhile. Only from Namespace.Ask.
	As func(p *Proc, size uint64, use func(tracee.Runner) error) error
	// Within is Inside for a bare child that is in the container's pid namespace,
	// too: for numbers of processes that /proc does not show any more. Hidden
	// is its host pid, true from its first use until all namespaces are saved. Not
	// available while checking (nil).
	Within func(build func(*tracee.Script) error, read func(*tracee.Script) error) error
	Hidden func() pidns.HostPID
	// Apart is Within for a bare child that is there for use alone, which may
	// make of it what it likes: of other credentials, say. v is its number in the
	// container. Not available while checking (nil).
	Apart func(use func(v pidns.VPID, run tracee.Runner) error) error
	// AsID runs calls in the process with that id, or, if nobody has it, in a bare
	// child that has it for the moment: to put right what the saving itself has
	// made the kernel note of its caller. Not available while checking (nil).
	AsID func(v pidns.VPID, build func(*tracee.Script) error, read func(*tracee.Script) error) error
	// Held are the processes that have ended and that an object saved still
	// refers to, see Ended.
	Held pidns.Holds
	// FileID gives the id in files.img of the open file description that a
	// process holds as descriptor fd; ok is false when it holds none. Usable
	// from Finish on.
	FileID func(p *Proc, fd int) (id uint32, ok bool)
	// AddFile saves a file that no descriptor holds (a mapped file, an
	// executable, a working directory, a socket in flight) and returns its id.
	// The same file under the same path gives the same id.
	AddFile func(p *Proc, f *os.File, link string) (id uint32, err error)
	// RefuseFile looks, without changing anything, whether AddFile would refuse
	// the file.
	RefuseFile func(p *Proc, f *os.File, link string) error
	// NewID hands out numbers for what image entries tie together (pipe ids,
	// shmids, tty ids): one counter a name. "file" numbers the entries of
	// files.img; an entry that no Desc stands for is added by who numbers it.
	NewID func(what string) uint32
	// IsLog tells whether this is the container's own log, which a restore
	// replaces by the new container's.
	IsLog func(unix.Stat_t) bool

	ids      *idMaps // read once, see Inode
	clocks   *Clocks // read once, see ClockOffset
	searches map[searched]*search
}

// Proc is a process being saved. Kinds fill its messages; the driver writes them.
type Proc struct {
	VPID   pidns.VPID
	Host   pidns.HostPID
	Parent *Proc // nil: a child of ckpt's init, or vpid 1 itself
	PGID   pidns.VPID
	SID    pidns.VPID
	// Chain, GroupChain and SessionChain are what VPID, PGID and SID are in
	// nested pid namespaces. Space is the one it lives in, by the id of the
	// first process of that.
	Chain, GroupChain, SessionChain pidns.Chain
	Space                           pidns.VPID
	Comm                            string
	Zombie                          bool
	// Status, Stat: as they were when the process was stopped.
	FS     *procfs.Proc
	Status *procfs.Status
	Stat   *procfs.Stat
	Maps   []procfs.Map // nil for a zombie; without ckpt's own
	Fds    []Descriptor // by number; empty where SharesFiles is set
	// PIDFD refers to the process.
	PIDFD *os.File
	// Threads: the leader first. A zombie has one, without Traced.
	Threads []*Task
	// StopSignal is the signal that stopped the process (group stop); 0: none.
	// Known once all Late functions have run.
	StopSignal unix.Signal
	// Shares: processes saved before this one that share the object (clone
	// flags); nil: its own.
	SharesVM, SharesFiles, SharesFS, SharesSighand *Proc

	TC    *criu_core.TaskCoreEntry
	IDs   *criu_core.TaskKobjIdsEntry
	MM    *mm.MmEntry
	FSE   *fs.FsEntry
	Extra *image.Task
}

// Task is a thread being saved.
type Task struct {
	VTID  pidns.VPID
	Chain pidns.Chain
	Host  pidns.HostPID
	// Traced is nil for a zombie, for a dead leader, and while only checking.
	Traced *tracee.Thread
	FS     *procfs.Proc
	Status *procfs.Status
	Stat   *procfs.Stat
	// Before is /proc/TID/syscall and /proc/TID/stack before the stop, and
	// the CPU and clock facts needed to compute the rest of a sleep.
	Before Before
	// Stopped: it has come to its stop, and Regs are set.
	Stopped bool
	// Regs as found; a thread kind corrects them (restarted calls, rseq).
	Regs  tracee.Regs
	Core  *criu_core.CoreEntry
	Extra *image.Thread
}

// Before is what a running thread showed just before it was stopped. The
// driver fills it; ExecStart and CPU only where Syscall names a sleep, since
// /proc/TID/sched is dear.
type Before struct {
	Syscall   string // /proc/TID/syscall: "running", or number, arguments, stack and instruction pointers
	Stack     string // while in restart_syscall(2): /proc/TID/stack, or /proc/TID/wchan where not permitted; "" if neither tells
	ExecStart uint64 // se.exec_start of /proc/TID/sched, ns of the scheduler clock of CPU
	CPU       int    // the CPU it last ran on
}

// Descriptor is a number in a process's table of descriptors. The flag
// FD_CLOEXEC belongs to it, all else to the open file description.
type Descriptor struct {
	FD      int
	Cloexec bool
	Desc    *Desc
}

// Desc is an open file description being saved. Proc and FD are the first
// descriptor seen of it; FD is -1 for a file that no descriptor holds
// (Dump.AddFile).
type Desc struct {
	ID   uint32 // in files.img
	Proc *Proc
	FD   int
	// File refers to the same open file description (pidfd_getfd(2)): its
	// flags and position are the target's own. Change nothing through it.
	File *os.File
	Link string // readlink /proc/PID/fd/N
	Info *procfs.FDInfo
	Stat unix.Stat_t
	// Entry is what Dump returned.
	Entry *fdinfo.FileEntry
}

// Owner reads F_GETOWN_EX and F_GETSIG of a descriptor, ids translated.
func (d *Dump) Owner(desc *Desc) (*fown.FownEntry, error) { return owner(d, desc) }

// HasTask tells whether the thread of that host id has been met.
func (p *Proc) HasTask(h pidns.HostPID) bool {
	return slices.ContainsFunc(p.Threads, func(t *Task) bool { return t.Host == h })
}

// OnlyPath tells of a descriptor that was opened with O_PATH: it leads to the
// object, and shows nothing of it.
func (d *Desc) OnlyPath() bool { return d.Info.Flags&unix.O_PATH != 0 }

// Lost says what of desc will not come back. Kinds call it from File.Dump, and
// while only checking (Out is nil) from File.Refuse.
func (d *Dump) Lost(desc *Desc, what string) {
	d.Log.Warn(what, "vpid", desc.Proc.VPID, "comm", desc.Proc.Comm, "fd", desc.FD)
}

// RemoveTask forgets a thread that has exited.
func (p *Proc) RemoveTask(t *Task) {
	p.Threads = slices.DeleteFunc(p.Threads, func(o *Task) bool { return o == t })
}

// Lead is a thread that can run calls for the process: the leader, or, when
// it has exited before the others, the first that is left. nil for a zombie.
func (p *Proc) Lead() *Task {
	for _, t := range p.Threads {
		if t.Status == nil || !t.Status.Zombie() {
			return t
		}
	}
	return nil
}
