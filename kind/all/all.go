// Package all lists every kind, in the order they are restored in. It is the
// only place that knows them all.
package all

import (
	"slices"
	"time"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"

	"ckpt/image"
	"ckpt/kind"
	"ckpt/kind/anoninode"
	"ckpt/kind/cgroup"
	"ckpt/kind/creds"
	"ckpt/kind/epoll"
	"ckpt/kind/eventfd"
	"ckpt/kind/fanotify"
	"ckpt/kind/fifo"
	"ckpt/kind/filelock"
	"ckpt/kind/fs"
	"ckpt/kind/inet"
	"ckpt/kind/inotify"
	"ckpt/kind/keyring"
	"ckpt/kind/memfd"
	"ckpt/kind/memory"
	"ckpt/kind/mounts"
	"ckpt/kind/mqueue"
	"ckpt/kind/nsfile"
	"ckpt/kind/othersock"
	"ckpt/kind/packetsock"
	"ckpt/kind/pending"
	"ckpt/kind/pidspace"
	"ckpt/kind/pipe"
	"ckpt/kind/regfile"
	"ckpt/kind/registers"
	"ckpt/kind/rlimit"
	"ckpt/kind/sched"
	"ckpt/kind/seccomp"
	"ckpt/kind/sigaction"
	"ckpt/kind/signalfd"
	"ckpt/kind/sysv"
	"ckpt/kind/taskmisc"
	"ckpt/kind/timens"
	"ckpt/kind/timer"
	"ckpt/kind/timerfd"
	"ckpt/kind/tty"
	"ckpt/kind/unixsock"
	"ckpt/kind/uts"
)

// Kinds are the kinds of one dump or restore.
type Kinds struct {
	// Files: the first that owns a descriptor saves it. anoninode is last: it
	// refuses by name what no other kind owns.
	Files []kind.File
	// Spaces come before the descriptors of a process, Processes after.
	Spaces, Processes []kind.Process
	Threads           []kind.Thread
	Namespaces        []kind.Namespace
	// Clocks gives the offsets of CLOCK_MONOTONIC and CLOCK_BOOTTIME that an
	// image asks for in one of its time namespaces (image.NamespaceID: the container's): they
	// must be set before the first process comes in.
	Clocks func(in *image.Reader, timeNS uint32) (monotonic, boottime time.Duration, err error)
}

// All are the kinds that a process is saved by.
func (k Kinds) All() []kind.Process { return slices.Concat(k.Spaces, k.Processes) }

// New makes the kinds of one run.
func New() Kinds {
	space, shared := memory.New()
	misc, threadMisc := taskmisc.New()
	dumpable, credentials := creds.New()
	timers, timerMaker := timer.New()
	sharedPending, ownPending := pending.New()
	terminals, terminalControl := tty.New()
	keyrings, threadKeyrings := keyring.New()
	limits, signalLimit := rlimit.New()
	messageQueues, queueNames, queueNotices := mqueue.New()
	autogroups, autogroupSetter := sched.Autogroups()
	return Kinds{
		Files: []kind.File{
			unixsock.Kind(), // its Finish finds files on their way: those of the others come after
			memfd.Kind(),    // before regfile, to which a memfd is a deleted file
			messageQueues,   // before regfile, to which one is a deleted file
			terminals,       // before regfile, to which a terminal is a device
			regfile.Kind(),
			pipe.Kind(),
			fifo.Kind(),
			inet.Kind(),
			othersock.Kind(),
			packetsock.Kind(),
			eventfd.Kind(),
			epoll.Kind(),
			timerfd.Kind(),
			signalfd.Kind(),
			inotify.Kind(),
			fanotify.Kind(),
			nsfile.Kind(),
			anoninode.Kind(), // last: refuses by name what is left
		},
		Spaces: []kind.Process{space},
		Processes: []kind.Process{
			mounts.Kind(),
			cgroup.Kind(),
			fs.Kind(),
			pidspace.Kind(),
			sigaction.Kind(),
			sysv.Undo(),
			sysv.Last(),
			timers,
			sharedPending,
			misc,
			terminalControl,
			queueNotices,
			keyrings,
			autogroups,
			dumpable,
			memfd.Seals(),   // after every mapping is made
			limits,          // nothing before it meets the program's own limits
			filelock.Kind(), // last: a later close(2) would drop locks
		},
		Threads: []kind.Thread{
			registers.Kind(),
			sched.Kind(),
			ownPending,
			threadMisc,
			threadKeyrings,
			timerMaker,  // alarm clocks take capabilities
			signalLimit, // no signal or timer after it
			seccomp.Kind(),
			credentials, // last: what comes after has the program's rights
		},
		Namespaces: []kind.Namespace{
			creds.Landlock(), // first to ask: it refuses, and the others take messages out
			timens.Kind(),
			mounts.Inside(),
			uts.Kind(),
			sysv.Kind(),
			queueNames, // before sysv.Kind's Finish, which sets the limits on them
			shared,
			autogroupSetter,   // in the end: a low one slows down what is left to do
			filelock.Leases(), // in the end: nobody opens the file any more
		},
		Clocks: clocks,
	}
}

func clocks(in *image.Reader, id uint32) (monotonic, boottime time.Duration, err error) {
	saved, err := timens.Read(in, &criu_core.TaskKobjIdsEntry{TimeNsId: &id})
	if saved == nil || err != nil {
		return 0, 0, err
	}
	now, err := timens.Now()
	if err != nil {
		return 0, 0, err
	}
	o := timens.Offsets(saved, now)
	return o.Monotonic, o.Boottime, nil
}
