package sysv

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/tracee"
)

// The undo value of a semaphore cannot be read, but it can be probed.
// semop(2) does all its operations or none. One with SEM_UNDO fails with
// ERANGE where the undo value would leave the range of -32768 to 32767
// (ipc/sem.c, perform_atomic_semop_slow), and the last one of a probe is
// always one that would block (EAGAIN): whichever error comes, nothing was
// done, no time and no pid noted. The process itself has to ask.
const (
	semMax    = 32767
	probes    = 512  // steps of one process's script that are spent on them
	mostSteps = 64   // in each direction: undo values up to 63 are told exactly
	mostSems  = 8192 // about 30 bytes of script for each
)

// set is a semaphore set with its values at the time of the dump.
type set struct {
	id     int
	values []uint16
	closed bool // its values may not be read
}

// undo is what one dump or restore remembers.
type undo struct {
	listed bool
	common bool // the semaphores are those of the host
	sets   []set
	total  int // semaphores
	most   int // operations that one semop may have (kernel.sem)
	asked  []holder
}

// holder is a process that has undo values.
type holder struct {
	vpid pidns.VPID
	host pidns.HostPID
}

// Undo are the undo values of processes.
func Undo() kind.Process {
	u := &undo{}
	return kind.Process{
		Name:    "semaphore undo values",
		Saves:   "what semop(2) with SEM_UNDO is to take back",
		Refuses: "a list that processes share (CLONE_SYSVSEM), or a thread has for its own; undo values of more than 63, or fewer if there are many semaphores; too many semaphores to ask",
		Needs:   "CONFIG_CHECKPOINT_RESTORE",
		Observe: u.observe, Ask: u.ask, Unseen: "undo values of semaphores (SEM_UNDO)",
		Limits: "those of a process that may not alter the semaphore any more are not seen",
	}
}

// observe lists the semaphores, before anything runs in a process: ask may
// not look elsewhere any more.
func (u *undo) observe(d *kind.Dump, _ *kind.Proc) error {
	if u.listed || d.Inside == nil {
		return nil
	}
	own, err := d.OwnNamespace("ipc")
	if err != nil {
		return err
	}
	u.listed, u.common = true, !own // an error is told once, not for every process
	return u.list(d)
}

// list finds the sets. Those of the host come and go meanwhile, which does not
// matter: what a stopped process has done it has done to one that is there.
func (u *undo) list(d *kind.Dump) error {
	find := semaphores().list
	if u.common {
		find = func(d *kind.Dump) ([]object, error) {
			all, _, err := semaphores().look(d)
			return all, err
		}
	}
	all, err := find(d)
	if err != nil || len(all) == 0 {
		return err
	}
	e, err := limits(d)
	if err != nil {
		return err
	}
	u.most = int(e.GetSemCtls()[2])
	for _, o := range all {
		s := set{id: o.id}
		values, err := semValues(d, o)
		switch {
		case u.common && gone(err):
			continue
		case u.common && errors.Is(err, unix.EACCES):
			s.closed = true
		case err != nil:
			return fmt.Errorf("semaphore set %d: %w", o.id, err)
		}
		for i := 0; i < len(values); i += 2 {
			s.values = append(s.values, binary.NativeEndian.Uint16(values[i:]))
		}
		u.sets = append(u.sets, s)
		u.total += max(1, len(s.values))
	}
	return nil
}

// gone: the set was removed.
func gone(err error) bool { return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EIDRM) }

// none tells whether p has no undo list: all of a process's threads share one
// as a rule, and ckpt's bare child, of a single thread, has none to compare with.
func none(d *kind.Dump, p *kind.Proc) (bool, error) {
	r, err := kernel.Kcmp(int(p.Lead().Host), int(d.Hand), kernel.KcmpSysvsem, 0, 0)
	if err != nil {
		return false, fmt.Errorf("compare undo lists (kcmp): %w", err)
	}
	return r == 0, nil
}

func (u *undo) ask(d *kind.Dump, p *kind.Proc, s *tracee.Script) (func() error, error) {
	if u.total == 0 {
		return nil, nil
	}
	if empty, err := none(d, p); err != nil || empty {
		return nil, err
	}
	for _, t := range p.Threads {
		if t.Traced == nil {
			continue
		}
		if r, err := kernel.Kcmp(int(t.Host), int(p.Lead().Host), kernel.KcmpSysvsem, 0, 0); err != nil || r != 0 {
			return nil, failure.WithHint(failure.Unsupportedf("thread %d has an undo list of its own (clone without CLONE_SYSVSEM)", t.VTID),
				"have the program make its threads by pthread_create(3)")
		}
	}
	if u.total > mostSems {
		return nil, failure.WithHint(failure.Unsupportedf("there are %d semaphores: whether it has undo values (SEM_UNDO) can be asked for up to %d", u.total, mostSems),
			"remove those that nobody uses (ipcs -s, ipcrm -s)")
	}
	steps := min(mostSteps, probes/2/u.total)
	var reads []func(*tracee.Script) error
	for _, set := range u.sets {
		if set.closed {
			reads = append(reads, u.probeClosed(s, set))
			continue
		}
		if steps < 2 {
			reads = append(reads, u.probeGroups(s, set)...)
			continue
		}
		for num := range set.values {
			reads = append(reads, u.probe(s, p, set, num, steps))
		}
	}
	return func() error {
		for _, read := range reads {
			if err := read(s); err != nil {
				return err
			}
		}
		if undo := p.Extra.GetSemUndo(); u.common && len(undo) > 0 {
			return failure.WithHint(failure.Unsupportedf("it has undo values (SEM_UNDO) on semaphore set %d of the host, which other programs may use, too", undo[0].GetSemid()),
				"start the program with ckpt start: in a container it has System V objects of its own",
				"dump at a moment when the program holds none of its semaphores")
		}
		return u.single(p)
	}, nil
}

// single refuses undo values that two processes share (CLONE_SYSVSEM).
func (u *undo) single(p *kind.Proc) error {
	if len(p.Extra.GetSemUndo()) == 0 {
		return nil
	}
	for _, o := range u.asked {
		r, err := kernel.Kcmp(int(p.Lead().Host), int(o.host), kernel.KcmpSysvsem, 0, 0)
		if err != nil {
			return fmt.Errorf("compare undo lists (kcmp): %w", err)
		}
		if r == 0 {
			return failure.WithHint(failure.Unsupportedf("it shares semaphore undo values with pid %d (CLONE_SYSVSEM)", o.vpid),
				"dump at a moment when neither holds a semaphore with SEM_UNDO")
		}
	}
	u.asked = append(u.asked, holder{p.VPID, p.Lead().Host})
	return nil
}

// atLeast are the operations that fail with ERANGE if the undo value of a
// semaphore is n or more, atMost if it is -n or less, for n from 1 on. Nothing
// but ERANGE can stop them. value is the semaphore's.
func atLeast(num uint16, value uint16, n int) []kernel.SemOp {
	return []kernel.SemOp{{Num: num, Op: int16(semMax - int(value))}, {Num: num, Op: int16(n - semMax - 1), Flags: kernel.SemUndo}}
}

func atMost(num uint16, value uint16, n int) []kernel.SemOp {
	ops := []kernel.SemOp{{Num: num, Op: -int16(value)}}
	if n == 1 { // one more than fits into one operation
		return append(ops, kernel.SemOp{Num: num, Op: semMax, Flags: kernel.SemUndo},
			kernel.SemOp{Num: num, Op: -semMax}, kernel.SemOp{Num: num, Op: 1, Flags: kernel.SemUndo})
	}
	return append(ops, kernel.SemOp{Num: num, Op: int16(semMax + 2 - n), Flags: kernel.SemUndo})
}

// blocked ends every probe: no value is that high.
func blocked(num uint16) kernel.SemOp {
	return kernel.SemOp{Num: num, Op: -semMax - 1, Flags: unix.IPC_NOWAIT}
}

// addSemop adds a call. An operation of 0 would wait for 0: it is left out.
func addSemop(s *tracee.Script, call func(nr uintptr, args ...uint64) tracee.Step, id int, ops []kernel.SemOp) tracee.Step {
	var b []byte
	n := uint64(0)
	for _, o := range ops {
		if o.Op == 0 {
			continue
		}
		b = binary.NativeEndian.AppendUint16(b, o.Num)
		b = binary.NativeEndian.AppendUint16(b, uint16(o.Op))
		b = binary.NativeEndian.AppendUint16(b, uint16(o.Flags))
		n++
	}
	return call(unix.SYS_SEMOP, uint64(id), s.Data(b), n)
}

// probe asks for one semaphore, in steps up and down.
func (u *undo) probe(s *tracee.Script, p *kind.Proc, set set, num, steps int) func(*tracee.Script) error {
	var up, down []tracee.Step
	n, v := uint16(num), set.values[num]
	for k := 1; k <= steps; k++ {
		up = append(up, addSemop(s, s.Try, set.id, append(atLeast(n, v, k), blocked(n))))
		down = append(down, addSemop(s, s.Try, set.id, append(atMost(n, v, k), blocked(n))))
	}
	return func(s *tracee.Script) error {
		adj := 0
		for i := range up {
			a, err := outOfRange(s, up[i])
			if err != nil {
				return fmt.Errorf("semaphore %d of set %d: %w", num, set.id, err)
			}
			b, err := outOfRange(s, down[i])
			if err != nil {
				return fmt.Errorf("semaphore %d of set %d: %w", num, set.id, err)
			}
			adj += a - b
		}
		switch {
		case adj == 0:
			return nil
		case adj >= steps || adj <= -steps || int(v)+max(adj, -adj) > semMax:
			return unknown(set.id)
		}
		p.Extra.SemUndo = append(p.Extra.SemUndo, &image.SemUndo{Semid: uint32(set.id), Num: uint32(num), Adj: int32(adj)})
		return nil
	}
}

func unknown(id int) error {
	return failure.WithHint(failure.Unsupportedf("it has undo values (SEM_UNDO) on semaphore set %d that cannot be told exactly", id),
		"dump at a moment when the program holds fewer of its semaphores")
}

// probeClosed asks for a set of the host whose values ckpt may not read
// whether the process may alter it.
func (u *undo) probeClosed(s *tracee.Script, set set) func(*tracee.Script) error {
	step := addSemop(s, s.Try, set.id, []kernel.SemOp{blocked(0)})
	return func(s *tracee.Script) error {
		_, err := s.Result(step)
		if errors.Is(err, unix.EAGAIN) {
			return failure.WithHint(failure.Unsupportedf("whether it has undo values (SEM_UNDO) on semaphore set %d of the host cannot be told: it may alter that, and ckpt may not read it", set.id),
				"dump as root")
		}
		return nil
	}
}

// probeGroups asks for many semaphores at a time whether one has a value.
func (u *undo) probeGroups(s *tracee.Script, set set) (reads []func(*tracee.Script) error) {
	const opsEach = 4
	size := max(1, (min(u.most, 500)-1)/opsEach)
	for from := 0; from < len(set.values); from += size {
		var up, down []kernel.SemOp
		for num := from; num < min(len(set.values), from+size); num++ {
			up = append(up, atLeast(uint16(num), set.values[num], 1)...)
			down = append(down, atMost(uint16(num), set.values[num], 1)...)
		}
		for _, ops := range [][]kernel.SemOp{up, down} {
			step := addSemop(s, s.Try, set.id, append(ops, blocked(uint16(from))))
			reads = append(reads, func(s *tracee.Script) error {
				some, err := outOfRange(s, step)
				if err == nil && some != 0 {
					err = unknown(set.id)
				}
				return err
			})
		}
	}
	return reads
}

// outOfRange is 1 for ERANGE and 0 for EAGAIN, which say something, and for
// EACCES: what the process may not alter it has most likely never altered. One
// of the host may be gone.
func outOfRange(s *tracee.Script, step tracee.Step) (int, error) {
	_, err := s.Result(step)
	switch {
	case errors.Is(err, unix.ERANGE):
		return 1, nil
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EACCES), gone(err):
		return 0, nil
	case err == nil:
		return 0, errors.New("a probe of its undo value went through")
	}
	return 0, fmt.Errorf("probe its undo value: %w", err)
}

// restoreUndo gives every process its undo values again.
func restoreUndo(r *kind.Restore) error {
	for _, t := range r.Targets {
		for _, e := range t.Extra.GetSemUndo() {
			if err := r.As(t.VPID, func(s *tracee.Script) error { return addUndo(s, e) }, nil); err != nil {
				return fmt.Errorf("undo value of semaphore %d in set %d: %w", e.GetNum(), e.GetSemid(), err)
			}
		}
	}
	return nil
}

// addUndo adds the call that gives a process an undo value and leaves the
// semaphore as it is: up without, then down with, or the other way about.
func addUndo(s *tracee.Script, e *image.SemUndo) error {
	adj, num := e.GetAdj(), uint16(e.GetNum())
	if adj == 0 || adj > semMax || adj < -semMax || e.GetNum() > maxSems || int32(e.GetSemid()) < 0 {
		return failure.Damagedf("an undo value of %d for semaphore %d of set %d", adj, e.GetNum(), int32(e.GetSemid()))
	}
	ops := []kernel.SemOp{{Num: num, Op: int16(adj)}, {Num: num, Op: int16(-adj), Flags: kernel.SemUndo}}
	if adj < 0 {
		ops = []kernel.SemOp{{Num: num, Op: int16(-adj), Flags: kernel.SemUndo}, {Num: num, Op: int16(adj)}}
	}
	for i := range ops {
		ops[i].Flags |= unix.IPC_NOWAIT
	}
	addSemop(s, s.Must, int(e.GetSemid()), ops)
	return nil
}
