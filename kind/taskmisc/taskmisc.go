// Package taskmisc is what a process or thread told the kernel about itself
// that belongs nowhere else.
//
// # What the kernel shows
//
// In /proc/PID oom_score_adj, coredump_filter, loginuid, and in the flags of
// stat PR_SET_IO_FLUSHER; the rest a thread asks for itself: prctl(2),
// personality(2), membarrier(2), get_mempolicy(2).
//
// # What is saved
//
// Of a process oom_score_adj, coredump_filter, audit login id, whether it
// reaps orphans (PR_SET_CHILD_SUBREAPER), huge pages switched off
// (PR_SET_THP_DISABLE), equal pages merged (PR_SET_MEMORY_MERGE),
// PR_SET_MDWE, and what it registered with membarrier.
// Of a thread personality, PR_SET_TSC, PR_MCE_KILL, speculation control and
// memory policy.
//
// # What is lost
//
// See Limits. A process is refused that has a shadow stack, linear address
// masking, CPUID faulting, a local descriptor table or PR_SET_IO_FLUSHER, and a
// thread that chooses whom it shares a CPU's core with (PR_SCHED_CORE).
//
// # Needs
//
// MEMBARRIER_CMD_GET_REGISTRATIONS (6.3, commit 544a4f2ecd45); before it all
// that the kernel supports counts as registered, which costs a process little
// and takes nothing from it.
package taskmisc

import (
	"ckpt/kind"
)

// New gives what belongs to a process and what belongs to each thread.
func New() (kind.Process, kind.Thread) {
	process := kind.Process{
		Name:    "process settings",
		Saves:   "oom_score_adj, coredump_filter, audit login id, PR_SET_CHILD_SUBREAPER, PR_SET_THP_DISABLE, PR_SET_MEMORY_MERGE, PR_SET_MDWE, what is registered with membarrier(2)",
		Refuses: "a shadow stack; linear address masking; ARCH_SET_CPUID; a local descriptor table; PR_SET_IO_FLUSHER",
		Needs:   "MEMBARRIER_CMD_GET_REGISTRATIONS (6.3); before it all that the kernel has counts as registered",
		Observe: observe,
		Ask:     ask,
		Sound:   sound,
		Restore: restore,
		Limits: "an oom_score_adj below that of whoever restores takes CAP_SYS_RESOURCE, and the log says where it was not set; " +
			"times used (getrusage(2), times(2)) and the start time begin anew, and so do those of children that have ended; PR_SET_PTRACER is not seen; the audit login id only where whoever restores has none",
	}
	thread := kind.Thread{
		Name:    "thread settings",
		Saves:   "personality, PR_SET_TSC, PR_MCE_KILL, speculation control, memory policy",
		Refuses: "core scheduling (PR_SCHED_CORE)",
		Ask:     askThread,
		Sound:   soundThread,
		Restore: restoreThread,
		Limits:  "a memory policy is set only where its nodes exist; speculation control only where the CPU needs it",
	}
	return process, thread
}
