package dump

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/procfs"
	"ckpt/tracee"
)

// How long a thread may take to stop. vforkPatience is enough for any thread
// that can hear at all; the rest of stopPatience is for those that wait for a
// disk or a network file system.
const (
	vforkPatience = 20 * time.Millisecond
	stopPatience  = 5 * time.Second
	freezeTries   = 200
	tryPause      = 5 * time.Millisecond
)

// passing is what stands in the way of a dump only until everything has gone
// on for a moment.
type passing struct{ what, hint string }

func (p *passing) Error() string { return p.what }

const vforkHint = "try again once that child has run its program or ended"

var (
	// A process waits in vfork(2) for its child to exec, deaf, and the child
	// has been stopped by us before it did.
	errVfork error = &passing{"it waits in vfork for its child to run a program", vforkHint}
	// See tracee.GoingHome.
	errGoingHome error = &passing{"it has yet to leave the code of a ckpt that was killed during a dump",
		"let it go on, if it is stopped (ckpt kill -s CONT), and try again"}
)

// freeze stops every thread of the container. When it meets what passes by
// itself it lets everything go on for a moment and begins again.
func (s *session) freeze(ctx context.Context) error {
	for n := 1; ; n++ {
		err := s.freezeOnce(ctx)
		p, ok := errors.AsType[*passing](err)
		if !ok {
			return err
		}
		if n == freezeTries {
			return failure.WithHint(failure.Mark(failure.ErrUnsupported, err), p.hint)
		}
		if err := s.release(); err != nil {
			return err
		}
		for _, p := range s.procs {
			s.forget(p)
		}
		time.Sleep(tryPause)
	}
}

// freezeOnce walks the tree again and again until a walk finds nothing new: a
// stopped process can no longer fork, so the last walk is exact.
func (s *session) freezeOnce(ctx context.Context) error {
	everybody := s.last == nil
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		pids, err := pidns.Walk(s.src.Root)
		if err != nil {
			return &failure.Error{Doing: "dump", Err: fmt.Errorf("find the container's processes: %w", err)}
		}
		var fresh []*kind.Task
		for _, pid := range pids {
			if !everybody && s.last.pids[pid] {
				continue
			}
			ts, err := s.seizeAll(ctx, int(pid))
			fresh = append(fresh, ts...)
			if err != nil {
				return err
			}
		}
		if err := s.waitAll(ctx, fresh); err != nil {
			return err
		}
		switch {
		case len(fresh) > 0:
		case !everybody:
			s.last.wait(ctx)
			everybody = true
		case s.last.again(): // the kernel had more for them than it showed
			if err := s.letRun(s.last.pids); err != nil {
				return err
			}
			everybody = false
		default:
			return s.settle(pids)
		}
	}
}

// seizeAll attaches to the threads of pid that are not yet attached, and
// returns them; they have been asked to stop.
func (s *session) seizeAll(ctx context.Context, pid int) (fresh []*kind.Task, err error) {
	p := s.procs[pid]
	if p == nil {
		fs, err := procfs.Open(pid)
		if err != nil {
			return nil, ignoreGone(err)
		}
		p = &kind.Proc{Host: pidns.HostPID(pid), FS: fs}
		s.procs[pid] = p
		s.order = append(s.order, p)
	}
	tids, err := p.FS.Tasks()
	if err != nil {
		return nil, ignoreGone(err)
	}
	for _, tid := range tids {
		if p.HasTask(pidns.HostPID(tid)) {
			continue
		}
		t, err := s.seize(p, tid)
		if err != nil {
			return fresh, err
		}
		if t == nil {
			continue
		}
		p.Threads = append(p.Threads, t)
		fresh = append(fresh, t)
		// The stop makes such a call fail, until WaitStopped has seen to it: if
		// ckpt were killed in between, the program would see that. So it is
		// not left waiting until all others have been asked.
		if nr, ok := callOf(t.Before.Syscall); ok && tracee.StopsWithEINTR(nr) {
			if err := s.waitAll(ctx, fresh[len(fresh)-1:]); err != nil {
				return fresh, err
			}
			if !t.Stopped { // it has ended
				fresh = fresh[:len(fresh)-1]
			}
		}
	}
	return fresh, nil
}

// callOf is the number of the call that a thread is in, by /proc/TID/syscall.
func callOf(text string) (uint64, bool) {
	nr, _, _ := strings.Cut(text, " ")
	n, err := strconv.ParseUint(nr, 10, 32)
	return n, err == nil
}

// seize attaches to one thread. A thread that has exited, or exits now, is nil.
func (s *session) seize(p *kind.Proc, tid int) (*kind.Task, error) {
	fs, err := p.FS.Thread(tid)
	if err != nil {
		return nil, ignoreGone(err)
	}
	t := &kind.Task{Host: pidns.HostPID(tid), FS: fs}
	t.Before = before(fs)
	t.Traced, err = tracee.Seize(tid, tracee.Options{SuspendSeccomp: s.d.SuspendsSeccomp})
	if err == nil {
		err = t.Traced.Interrupt()
	}
	if err == nil {
		return t, nil
	}
	if st, serr := fs.Stat(); serr != nil || st.State == 'Z' || st.State == 'X' {
		return nil, nil // a zombie cannot be traced, and need not be: it is looked at in settle
	}
	if errors.Is(err, unix.EPERM) {
		if st, serr := fs.Status(); serr == nil {
			p.VPID, p.Comm, t.VTID = s.outer(st.NStgid), st.Name, s.outer(st.NSpid)
			if st.TracerPid != 0 {
				return nil, s.failThread(p, t, "", s.traced(st))
			}
			if _, err := p.FS.Auxv(); hidden(err) {
				return nil, s.fail(p, "", closed(st))
			}
		}
	}
	return nil, s.fail(p, "stop it", err)
}

// traced tells who traces the task of st: a process of the container by the
// number that it has there.
func (s *session) traced(st *procfs.Status) error {
	by := fmt.Sprintf("a process outside of the container (host pid %d)", st.TracerPid)
	if fs, err := procfs.Open(st.TracerPid); err == nil {
		defer fs.Close()
		tracer, err := fs.Status()
		switch {
		case err != nil:
		case s.within(st.TracerPid):
			by = fmt.Sprintf("pid %d (%s)", s.outer(tracer.NSpid), tracer.Name)
		default:
			by = fmt.Sprintf("a process outside of the container: host pid %d (%s)", st.TracerPid, tracer.Name)
		}
	}
	return failure.WithHint(failure.Unsupportedf("it is being traced by %s", by), "end the tracer (gdb, strace) before the dump")
}

// within tells whether a process is one of those to be saved, or their vpid 1.
func (s *session) within(pid int) bool {
	above, err := procfs.Ancestors(pid)
	return err == nil && slices.Contains(above, int(s.src.Root))
}

// before notes what only a running thread shows.
func before(fs *procfs.Proc) (b kind.Before) {
	b.Syscall, _ = fs.Syscall()
	nr, _, _ := strings.Cut(b.Syscall, " ")
	switch nr {
	case strconv.Itoa(unix.SYS_RESTART_SYSCALL):
		if b.Stack, _ = fs.Stack(); b.Stack == "" { // not permitted to ordinary users
			b.Stack, _ = fs.Wchan()
		}
	case strconv.Itoa(unix.SYS_NANOSLEEP), strconv.Itoa(unix.SYS_CLOCK_NANOSLEEP):
	case "running", "":
		return b
	}
	b.ExecStart, _ = fs.SchedExecStart()
	if st, err := fs.Stat(); err == nil {
		b.CPU = st.Processor
	}
	return b
}

// waitAll waits until the threads just seized have stopped.
func (s *session) waitAll(ctx context.Context, fresh []*kind.Task) error {
	for _, t := range fresh {
		if t.Stopped {
			continue
		}
		p := s.procs[t.Traced.PID]
		err := s.willStop(ctx, t)
		if err == nil {
			err = stopped(t)
		}
		if errors.Is(err, tracee.ErrGone) {
			p.RemoveTask(t)
			continue
		}
		if err != nil {
			return s.fail(p, "stop it", err)
		}
	}
	return nil
}

// willStop waits for a thread to come to its stop.
func (s *session) willStop(ctx context.Context, t *kind.Task) error {
	err := t.Traced.WillStop(ctx, vforkPatience)
	if !errors.Is(err, tracee.ErrDeaf) {
		return err
	}
	if forking(t) {
		return errVfork
	}
	if err = t.Traced.WillStop(ctx, stopPatience); errors.Is(err, tracee.ErrDeaf) {
		return failure.WithHint(failure.Unsupportedf("it does not stop: the kernel keeps it in an uninterruptible wait"),
			"try again when the disk or network it waits for answers")
	}
	return err
}

// forking tells whether a thread is in a call that makes a process: one that
// does not stop there is in vfork(2).
func forking(t *kind.Task) bool {
	call, _ := t.FS.Syscall()
	nr, ok := callOf(call)
	return ok && tracee.Forks(nr)
}

// stopped takes the stop, and the registers at once: whatever happens from
// here on, they are what the thread goes on with.
func stopped(t *kind.Task) (err error) {
	if _, err := t.Traced.WaitStopped(); err != nil {
		return err
	}
	t.Regs, err = t.Traced.Regs()
	t.Stopped = err == nil
	return err
}

// settle keeps, of all that was met, the processes of the last walk, in its
// order (parents first), and reads what they are.
func (s *session) settle(pids []pidns.HostPID) error {
	s.order = s.order[:0]
	for _, pid := range pids {
		p := s.procs[int(pid)]
		if p == nil {
			continue
		}
		err := s.identify(p)
		if s.endedMeanwhile(err) {
			delete(s.procs, int(pid))
			closeProc(p)
			continue
		}
		if err != nil {
			return err
		}
		if err := s.isHome(p); err != nil {
			return s.fail(p, "run calls in it", err)
		}
		s.order = append(s.order, p)
	}
	if err := s.dropStrays(); err != nil {
		return err
	}
	return s.arrange()
}

// dropStrays lets go of what was stopped and is not of the last walk: it has
// ended, or left a tree of the host when its parent ended.
func (s *session) dropStrays() error {
	strays := map[pidns.HostPID]bool{}
	for pid := range s.procs {
		strays[pidns.HostPID(pid)] = true
	}
	for _, p := range s.order {
		delete(strays, p.Host)
	}
	return s.letRun(strays)
}

// isHome makes sure that calls can be run in p.
func (s *session) isHome(p *kind.Proc) error {
	var regs []tracee.Regs
	var tid pidns.HostPID
	for _, t := range p.Threads {
		if t.Stopped {
			tid, regs = t.Host, append(regs, t.Regs)
		}
	}
	if len(regs) == 0 {
		return nil // a zombie
	}
	going, err := tracee.GoingHome(p.FS, int(tid), regs)
	if hidden(err) {
		return nil // examine refuses it
	}
	if err == nil && going {
		err = errGoingHome
	}
	return err
}

func ignoreGone(err error) error {
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// fail tells of which process err is. One that has not been identified yet, as
// is so while all are being stopped, is looked at for that.
func (s *session) fail(p *kind.Proc, what string, err error) error {
	if err == nil {
		return nil
	}
	vpid, comm := p.VPID, p.Comm
	if vpid == 0 {
		if st, serr := p.FS.Status(); serr == nil {
			vpid, comm = s.outer(st.NStgid), st.Name
		}
	}
	return &failure.Error{Doing: "dump", VPID: int(vpid), Comm: comm, What: what, Err: err}
}
