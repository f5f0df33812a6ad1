package seccomp

import (
	"encoding/binary"
	"fmt"
	"slices"

	criu_core "github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/seccomp"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/tracee"
)

// maker holds the list of the image, read when the first thread needs it.
type maker struct {
	read bool
	all  []*seccomp.SeccompFilter
}

func (m *maker) load(r *kind.Restore) error {
	if m.read {
		return nil
	}
	m.read = true
	return image.Each(r.In, image.Seccomp, "", func(e *seccomp.SeccompEntry, _ func(int) ([]byte, error)) error {
		m.all = append(m.all, e.GetSeccompFilters()...)
		return nil
	})
}

// rootOnly refuses a thread to an ordinary user.
func rootOnly(r *kind.Restore, _ *kind.Target, tt *kind.TargetThread) error {
	if tt.Core.GetThreadCore().GetSeccompMode() == criu_core.SeccompMode_disabled || r.SuspendsSeccomp {
		return nil
	}
	if r.Privileged {
		return failure.WithHint(failure.Unsupportedf("it was under seccomp, which can be restored only by root that is under no filter itself"), outOfFilter)
	}
	return failure.WithHint(failure.Unsupportedf("it was under seccomp, which only root can restore"), "restore as root")
}

// restore sets the filters in the thread's own script, before it loses the
// right to, and not in the last one: they have no effect as long as ckpt
// traces the thread (PTRACE_O_SUSPEND_SECCOMP).
//
// What all threads of a process have in common, its first one sets for all:
// the kernel compares filters by their addresses when a thread wants to add
// one to all (is_ancestor() in kernel/seccomp.c), so that those that only read
// the same would forbid SECCOMP_FILTER_FLAG_TSYNC for ever. no_new_privs comes
// later, with the credentials: the flag would spread it.
func (m *maker) restore(r *kind.Restore, t *kind.Target, tt *kind.TargetThread) error {
	core := tt.Core.GetThreadCore()
	mode := core.GetSeccompMode()
	if mode == criu_core.SeccompMode_disabled {
		return nil
	}
	if err := rootOnly(r, t, tt); err != nil {
		return err
	}
	s := tt.Script
	switch mode {
	case criu_core.SeccompMode_strict:
		s.Note(s.Must(unix.SYS_PRCTL, unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_STRICT, 0, 0, 0), "give up all system calls (seccomp)")
		return nil
	case criu_core.SeccompMode_filter:
	default:
		return failure.Damagedf("seccomp mode %d", mode)
	}
	if err := m.load(r); err != nil {
		return err
	}
	if core.SeccompFilter == nil {
		return failure.Damagedf("thread %d: its seccomp filter is missing", tt.VTID)
	}
	chain, err := m.chain(core.GetSeccompFilter())
	if err != nil {
		return err
	}
	living := alive(t)
	common, err := m.common(living)
	if err != nil {
		return err
	}
	for i, f := range chain {
		flags := uint64(f.GetFlags()&unix.SECCOMP_FILTER_FLAG_LOG | unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW)
		if i < common {
			if tt != living[0] {
				continue
			}
			flags |= unix.SECCOMP_FILTER_FLAG_TSYNC | unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH
		}
		install(s, f.GetFilter(), flags, fmt.Sprintf("set seccomp filter %d of %d", i+1, len(chain)))
	}
	return nil
}

// alive are the threads of t but for a leader that exited before them.
func alive(t *kind.Target) []*kind.TargetThread {
	return slices.DeleteFunc(slices.Clone(t.Threads), func(tt *kind.TargetThread) bool { return tt.Extra.GetDead() })
}

// common is how many filters, the oldest first, all of several threads have;
// 0 for a single one.
func (m *maker) common(threads []*kind.TargetThread) (int, error) {
	if len(threads) < 2 {
		return 0, nil
	}
	var first []*seccomp.SeccompFilter
	n := 0
	for i, tt := range threads {
		core := tt.Core.GetThreadCore()
		if core.GetSeccompMode() != criu_core.SeccompMode_filter {
			return 0, nil
		}
		chain, err := m.chain(core.GetSeccompFilter())
		if err != nil {
			return 0, err
		}
		if i == 0 {
			first, n = chain, len(chain)
			continue
		}
		n = min(n, len(chain))
		for k := range n {
			if chain[k] != first[k] {
				n = k
				break
			}
		}
	}
	return n, nil
}

// chain are the filters of a thread whose newest is last, the oldest first.
func (m *maker) chain(last uint32) ([]*seccomp.SeccompFilter, error) {
	var out []*seccomp.SeccompFilter
	for {
		if int(last) >= len(m.all) || len(out) > len(m.all) {
			return nil, failure.Damagedf("seccomp.img: there is no filter %d, or it follows itself", last)
		}
		f := m.all[last]
		if n := len(f.GetFilter()); n == 0 || n%insnSize != 0 || n/insnSize > 4096 {
			return nil, failure.Damagedf("seccomp.img: filter %d of %d bytes is no program", last, n)
		}
		out = append(out, f)
		if f.Prev == nil {
			slices.Reverse(out)
			return out, nil
		}
		last = f.GetPrev()
	}
}

// install adds seccomp(2) of one filter. SPEC_ALLOW, which is not told of a
// filter, keeps it from changing speculation control: that is carried apart.
func install(s *tracee.Script, filter []byte, flags uint64, note string) {
	prog := make([]byte, 16) // struct sock_fprog: number of instructions, address
	binary.NativeEndian.PutUint16(prog, uint16(len(filter)/insnSize))
	binary.NativeEndian.PutUint64(prog[8:], s.Data(filter))
	s.Note(s.Must(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, s.Data(prog)), note)
}
