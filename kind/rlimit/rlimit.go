// Package rlimit is the resource limits of a process (getrlimit(2)).
//
// # What the kernel shows
//
// /proc/PID/limits. prlimit(2) on a process of another user wants
// CAP_SYS_RESOURCE even to read.
//
// # What is saved
//
// In core-VPID.img soft and hard limit of all 16 resources, in the order of
// their numbers; all ones is unlimited.
//
// # What is lost
//
// A hard limit above that of whoever restores can be raised only with
// CAP_SYS_RESOURCE in the first user namespace: without it the limit stays
// lower, and the log says so. CPU time used so far (RLIMIT_CPU) starts anew.
//
// # Needs
//
// prlimit(2) (2.6.36).
package rlimit

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"

	criu_core "github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	criu_rlimit "github.com/checkpoint-restore/go-criu/v7/crit/images/rlimit"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/procfs"
	"ckpt/tracee"
)

const name = "resource limits"

// New gives the limits of a process, and the one of signals that wait, which
// threads set. In the tables of kinds each comes after all others that add to
// Target.Late or TargetThread.Last what its limits could hinder.
func New() (all kind.Process, signals kind.Thread) {
	l := &limits{signals: map[*kind.Target]procfs.Limit{}}
	all = kind.Process{
		Name:    name,
		Saves:   "soft and hard limits of all sorts",
		Observe: observe,
		Sound:   sound,
		Restore: l.restore,
		Limits:  "a hard limit above that of whoever restores is raised only with CAP_SYS_RESOURCE; the log names those that were not",
	}
	return all, kind.Thread{Name: name, Restore: l.restoreThread}
}

// limits are those of the processes of a restore.
type limits struct {
	// signals is how many signals and timers the user of a process being rebuilt
	// may have waiting.
	signals map[*kind.Target]procfs.Limit
	kept    []*kept
}

// kept is a hard limit that was not raised, for one process or for several.
type kept struct {
	res         int
	wants, have uint64
	first       pidns.VPID
	others      int
	err         error // of the first one
}

// keep notes one. A container's processes mostly have the same limits.
func (l *limits) keep(k kept) {
	for _, o := range l.kept {
		if o.res == k.res && o.wants == k.wants && o.have == k.have {
			o.others++
			return
		}
	}
	l.kept = append(l.kept, &k)
}

// tell warns of all, once the last process is being rebuilt.
func (l *limits) tell(r *kind.Restore, t *kind.Target) {
	for _, o := range slices.Backward(r.Targets) {
		if o == t {
			break
		}
		if !o.Zombie {
			return
		}
	}
	for _, k := range l.kept {
		attrs := []any{"vpid", k.first, "limit", procfs.LimitName(k.res), "wanted", show(k.wants), "stays", show(k.have), "err", k.err}
		if k.others > 0 {
			attrs = append(attrs, "others", k.others)
		}
		r.Log.Warn("limit not raised", attrs...)
	}
	l.kept = nil
}

func observe(_ *kind.Dump, p *kind.Proc) error {
	all, err := p.FS.Limits()
	if err != nil {
		return err
	}
	p.TC.Rlimits = &criu_core.TaskRlimitsEntry{}
	for _, l := range all {
		p.TC.Rlimits.Rlimits = append(p.TC.Rlimits.Rlimits,
			&criu_rlimit.RlimitEntry{Cur: proto.Uint64(l.Soft), Max: proto.Uint64(l.Hard)})
	}
	return nil
}

// restore raises limits at once, from here, while whoever restores still has
// the right to, and so knows what could not be raised: they may stand in the way
// of what is restored next (RLIMIT_MEMLOCK, RLIMIT_SIGPENDING). The rest is done
// in the last script, where a small limit no longer does: it only lowers, which
// needs no right.
func (l *limits) restore(r *kind.Restore, t *kind.Target) error {
	p, err := procfs.OpenAt(r.HostProc, t.Host.String())
	if err != nil {
		return err
	}
	defer p.Close()
	have, err := p.Limits()
	if err != nil {
		return err
	}
	for res, e := range t.TC.GetRlimits().GetRlimits() {
		if res >= len(have) {
			break // of a newer kernel
		}
		want := procfs.Limit{Soft: e.GetCur(), Hard: e.GetMax()}
		if want.Hard > have[res].Hard {
			if err := raise(t.Host, res, procfs.Limit{Soft: max(have[res].Soft, want.Soft), Hard: want.Hard}); err != nil {
				l.keep(kept{res: res, wants: want.Hard, have: have[res].Hard, first: t.VPID, err: err})
				want = lowered(want, have[res].Hard)
			} else if res == unix.RLIMIT_NOFILE {
				// The driver's own call, earlier in the script, set the limit
				// back to what it was before the line above.
				set(t.Main, res, procfs.Limit{Soft: want.Hard, Hard: want.Hard})
			}
		}
		if res != unix.RLIMIT_NOFILE && want.Hard <= have[res].Hard && want.Soft > have[res].Soft {
			if err := raise(t.Host, res, procfs.Limit{Soft: want.Soft, Hard: have[res].Hard}); err != nil {
				return fmt.Errorf("limit %q: %w", procfs.LimitName(res), err)
			}
		}
		if res == unix.RLIMIT_SIGPENDING {
			l.signals[t] = want
			continue
		}
		set(t.Late, res, want)
	}
	l.tell(r, t)
	return nil
}

// restoreThread lets the last thread set the limit: all have queued their
// signals by then.
func (l *limits) restoreThread(_ *kind.Restore, t *kind.Target, tt *kind.TargetThread) error {
	want, ok := l.signals[t]
	after := t.Threads[slices.Index(t.Threads, tt)+1:]
	if ok && !slices.ContainsFunc(after, func(o *kind.TargetThread) bool { return !o.Extra.GetDead() }) {
		set(tt.Last, unix.RLIMIT_SIGPENDING, want)
	}
	return nil
}

func set(s *tracee.Script, res int, l procfs.Limit) {
	st := s.Must(unix.SYS_PRLIMIT64, 0, uint64(res), s.Data(encode(l)), 0)
	s.Note(st, "set limit "+strconv.Quote(procfs.LimitName(res)))
}

func raise(pid pidns.HostPID, res int, l procfs.Limit) error {
	if err := unix.Prlimit(int(pid), res, &unix.Rlimit{Cur: l.Soft, Max: l.Hard}, nil); err != nil {
		return fmt.Errorf("set limit: %w", err)
	}
	return nil
}

// lowered is l under a hard limit that cannot be raised.
func lowered(l procfs.Limit, hard uint64) procfs.Limit {
	return procfs.Limit{Soft: min(l.Soft, hard), Hard: min(l.Hard, hard)}
}

// encode is struct rlimit64.
func encode(l procfs.Limit) []byte {
	b := binary.LittleEndian.AppendUint64(nil, l.Soft)
	return binary.LittleEndian.AppendUint64(b, l.Hard)
}

func show(v uint64) string {
	if v == procfs.Unlimited {
		return "unlimited"
	}
	return strconv.FormatUint(v, 10)
}
