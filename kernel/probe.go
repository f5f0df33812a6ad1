package kernel

import (
	"fmt"

	"golang.org/x/sys/unix"

	"ckpt/failure"
)

// Need says what is lost without a feature.
type Need string

const (
	Required Need = "required" // nothing can be saved or brought back without it
	Optional Need = "optional" // something is slower, or refused when it is met
)

// Probe finds out whether this kernel, and this user on it, has a feature. It
// tries the thing itself: distributions backport features and switch others
// off, so a version number decides nothing.
type Probe struct {
	Name  string
	For   string // what ckpt uses it for, one sentence
	Since string // the first kernel version that has it
	Need  Need
	// Try has three outcomes: nil, it works; an error that Is
	// failure.ErrUnsupported, it is conclusively not there; any other
	// error, it could not be told. It leaves nothing behind.
	Try func() error
}

// Probes are all of them, in the order in which `ckpt check` prints them.
func Probes() []Probe {
	return []Probe{
		{"pid namespaces", "gives a container its own process ids", "3.8", Required, tryPidns},
		{"user namespaces", "lets an ordinary user start, save and restore containers", "3.8", Optional, tryUserns},
		{"clone3 set_tid", "brings a process back under the id it had", "5.5", Required, trySetTID},
		{"ptrace", "stops a process and reads its registers", "3.4", Required, tryPtrace},
		{"PTRACE_GET_RSEQ_CONFIGURATION", "saves where a thread registered its restartable sequences", "5.13", Required, tryRseq},
		{"PTRACE_O_SUSPEND_SECCOMP", "saves and restores a process under a seccomp filter", "4.3", Optional, trySuspendSeccomp},
		{"pidfd_open", "refers to a process without mistaking another for it", "5.3", Required, tryPidfdOpen},
		{"pidfd_getfd", "brings descriptors out of a process and back into it", "5.6", Required, tryPidfdGetfd},
		{"kcmp", "finds descriptors and memory that processes share", "3.5", Required, tryKcmp},
		{"children files", "finds the processes of a tree quickly", "3.5", Required, tryChildren},
		{"map_files", "saves mapped files that have no name any more", "3.3", Optional, tryMapFiles},
		{"memfd_create", "brings back shared anonymous memory", "3.17", Required, tryMemfd},
		{"PR_SET_MM_MAP", "gives a process back its heap, stack and argument areas", "3.18", Required, trySetMMMap},
		{"PAGEMAP_SCAN", "finds the pages worth saving quickly", "6.7", Optional, tryPagemapScan},
		{"userfaultfd missing", "lets memory follow after a restore (--lazy)", "4.3", Optional, tryUffdMissing},
		{"PR_TIMER_CREATE_RESTORE_IDS", "brings back POSIX timers under their ids at once", "6.16", Optional, tryTimerIDs},
		{"membarrier registrations", "saves what a process registered with membarrier", "6.3", Optional, tryMembarrier},
		{"time namespaces", "keeps the monotonic clock going after a restore on another machine", "5.6", Optional, tryTimens},
		{"unix_diag", "saves unix sockets with their peers and queues", "3.3", Optional, tryUnixDiag},
		{"inet_diag", "saves TCP and UDP sockets", "2.6.14", Optional, tryInetDiag},
		{"TCP_REPAIR", "saves and restores TCP connections", "3.5", Optional, tryTCPRepair},
		{"System V ipc ids", "brings back System V memory, semaphores and queues under their ids", "3.9", Optional, tryNextID},
		{"cgroup2 freezer", "stops a whole container at one instant", "5.2", Optional, tryFreeze},
	}
}

// absent turns the errnos by which a kernel says "never heard of it" into
// failure.ErrUnsupported, and words any other.
func absent(doing string, err error, means ...unix.Errno) error {
	if err == nil {
		return nil
	}
	for _, e := range means {
		if err == e {
			return failure.Unsupportedf("%s: not in this kernel (%w)", doing, err)
		}
	}
	return fmt.Errorf("%s: %w", doing, err)
}
