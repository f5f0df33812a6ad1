package taskmisc

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kind/kindtest"
)

func TestLDT(t *testing.T) {
	b := kindtest.NewBare(t)
	s := b.Script()
	// struct user_desc: entry 3, base, limit, flags.
	s.Must(unix.SYS_MODIFY_LDT, 1, s.Data([]byte{3, 0, 0, 0, 0, 0x10, 0, 0, 100, 0, 0, 0, 1, 0, 0, 0}), 16)
	b.Run(s)
	_, err := b.Save(kinds())
	if !errors.Is(err, failure.ErrUnsupported) || !strings.Contains(err.Error(), "modify_ldt") || len(failure.Hints(err)) == 0 {
		t.Errorf("%v, hints %q", err, failure.Hints(err))
	}
}

// Few processors can make the cpuid instruction fault: what ARCH_GET_CPUID would
// give is given by another call here, which gives 0, and by one that fails.
func TestCPUID(t *testing.T) {
	b := kindtest.NewBare(t)
	s := b.Script()
	off := s.Try(unix.SYS_SCHED_YIELD)
	unknown := s.Try(unix.SYS_CLOSE, ^uint64(0))
	b.Run(s)
	if err := checkCPUID(s, off); !errors.Is(err, failure.ErrUnsupported) || !strings.Contains(err.Error(), "ARCH_SET_CPUID") || len(failure.Hints(err)) == 0 {
		t.Errorf("%v, hints %q", err, failure.Hints(err))
	}
	if err := checkCPUID(s, unknown); err != nil {
		t.Error(err)
	}
}
