// Package sched is how a thread is scheduled.
//
// # What the kernel shows
//
// sched_getattr(2), getpriority(2), sched_getaffinity(2) and ioprio_get(2)
// tell of any thread by its id; its timer slack it asks for itself. The nice
// value of its session is in /proc/PID/autogroup.
//
// # What is saved
//
// Policy, priority, nice value, the parameters of SCHED_DEADLINE, a time slice
// of its own, utilisation clamps, the set of CPUs if it is not all of them,
// I/O class and priority, timer slack, the nice values of sessions.
//
// # What is lost
//
// The timer slack that prctl(PR_SET_TIMERSLACK, 0) goes back to.
//
// # Needs
//
// sched_setattr(2), 3.14. Raising a priority takes CAP_SYS_NICE in the first
// user namespace or the resource limits RLIMIT_NICE and RLIMIT_RTPRIO.
package sched

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/kind"
	"ckpt/tracee"
)

// Kind is scheduling of threads.
func Kind() kind.Thread {
	k := &own{}
	return kind.Thread{
		Name:    "scheduling",
		Saves:   "policy (SCHED_DEADLINE, too), priority, nice value, reset on fork, utilisation clamps, CPUs, I/O priority, timer slack",
		Needs:   "sched_setattr(2) (3.14); CAP_SYS_NICE, or limits that allow it, to raise a priority",
		Observe: k.observe,
		Ask:     ask,
		Sound:   sound,
		Restore: restore,
		Final:   final,
		Limits:  "the default that prctl(PR_SET_TIMERSLACK, 0) goes back to is the restored one's",
	}
}

// own is what a thread without any wishes has on this machine.
type own struct {
	online int    // CPUs
	slice  uint64 // ns
}

const (
	flagUtil   = 0x20 | 0x40 // SCHED_FLAG_UTIL_CLAMP_MIN, _MAX
	utilMost   = 1024
	whoProcess = 1  // IOPRIO_WHO_PROCESS: a thread, in truth
	niceZero   = 20 // getpriority(2) as the kernel returns it for nice 0
)

func (k *own) observe(_ *kind.Dump, _ *kind.Proc, t *kind.Task) error {
	tid := int(t.Host)
	a, err := unix.SchedGetAttr(tid, 0)
	if err != nil {
		return fmt.Errorf("read scheduling policy (sched_getattr): %w", err)
	}
	nice, err := unix.Getpriority(unix.PRIO_PROCESS, tid)
	if err != nil {
		return fmt.Errorf("read nice value (getpriority): %w", err)
	}
	tc, x := t.Core.ThreadCore, t.Extra
	tc.SchedPolicy, tc.SchedPrio, tc.SchedNice = proto.Uint32(a.Policy), proto.Uint32(a.Priority), proto.Int32(int32(niceZero-nice))
	x.SchedFlags = uint32(a.Flags) &^ flagUtil
	x.DlRuntime, x.DlDeadline, x.DlPeriod, x.SliceNs, x.UtilMin, x.UtilMax = 0, 0, 0, 0, 0, 0
	if err := k.read(); err != nil {
		return err
	}
	if a.Policy == unix.SCHED_DEADLINE {
		x.DlRuntime, x.DlDeadline, x.DlPeriod = a.Runtime, a.Deadline, a.Period
	} else if a.Runtime != k.slice { // 6.12 and later tell a slice there
		x.SliceNs = a.Runtime
	}
	if a.Util_min != 0 || a.Util_max != 0 && a.Util_max != utilMost {
		x.UtilMin, x.UtilMax = a.Util_min, a.Util_max
	}
	cpus, err := affinityOf(tid)
	if err != nil {
		return err
	}
	if x.Affinity = nil; cpus.Count() < k.online {
		x.Affinity = encode(cpus)
	}
	io, _, e := unix.RawSyscall(unix.SYS_IOPRIO_GET, whoProcess, uintptr(tid), 0)
	if e != 0 {
		return fmt.Errorf("read I/O priority (ioprio_get): %w", e)
	}
	x.Ioprio = uint32(io)
	return nil
}

// read fills in k once.
func (k *own) read() error {
	if k.online != 0 {
		return nil
	}
	n, err := onlineCPUs()
	if err != nil {
		return err
	}
	a, err := unix.SchedGetAttr(unix.Getpid(), 0)
	if err != nil {
		return fmt.Errorf("read ckpt's own scheduling policy (sched_getattr): %w", err)
	}
	k.online, k.slice = n, a.Runtime
	return nil
}

func ask(_ *kind.Dump, _ *kind.Proc, t *kind.Task, s *tracee.Script) (func() error, error) {
	slack := s.Must(unix.SYS_PRCTL, unix.PR_GET_TIMERSLACK)
	s.Note(slack, "read timer slack")
	return func() (err error) {
		t.Extra.TimerSlackNs, err = s.Result(slack)
		return err
	}, nil
}

func restore(r *kind.Restore, _ *kind.Target, tt *kind.TargetThread) error {
	if slack := tt.Extra.GetTimerSlackNs(); slack != 0 { // 0: a real-time thread
		tt.Script.Note(tt.Script.Must(unix.SYS_PRCTL, unix.PR_SET_TIMERSLACK, slack), "set timer slack")
	}
	return restoreAffinity(r, tt)
}

// final sets the policy last, for a thread of low priority would run its
// scripts slowly.
func final(_ tracee.Site, _ *kind.Target, tt *kind.TargetThread) error {
	tid, tc, x := tt.Traced.TID, tt.Core.GetThreadCore(), tt.Extra
	if x.GetIoprio() != 0 {
		if _, _, e := unix.RawSyscall(unix.SYS_IOPRIO_SET, whoProcess, uintptr(tid), uintptr(x.GetIoprio())); e != 0 {
			return notRaised(fmt.Sprintf("I/O priority %#x", x.GetIoprio()), e)
		}
	}
	a := &unix.SchedAttr{Policy: tc.GetSchedPolicy(), Flags: uint64(x.GetSchedFlags()), Nice: tc.GetSchedNice(),
		Priority: tc.GetSchedPrio(), Runtime: x.GetSliceNs()}
	if a.Policy == unix.SCHED_DEADLINE {
		a.Runtime, a.Deadline, a.Period = x.GetDlRuntime(), x.GetDlDeadline(), x.GetDlPeriod()
	}
	if x.GetUtilMin() != 0 || x.GetUtilMax() != 0 {
		a.Flags |= flagUtil
		a.Util_min, a.Util_max = x.GetUtilMin(), x.GetUtilMax()
	}
	if err := unix.Setpriority(unix.PRIO_PROCESS, tid, int(tc.GetSchedNice())); err != nil {
		return notRaised(fmt.Sprintf("nice value %d", tc.GetSchedNice()), err)
	}
	if err := unix.SchedSetAttr(tid, a, 0); err != nil {
		return notRaised(fmt.Sprintf("scheduling policy %d, priority %d", a.Policy, a.Priority), err)
	}
	return nil
}

func notRaised(what string, err error) error {
	err = fmt.Errorf("set %s: %w", what, err)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return failure.WithHint(failure.Mark(failure.ErrUnsupported, err),
			"restore it as root, or with the limits (ulimit -e, ulimit -r) that allow it")
	}
	return err
}
