package tracee

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSysctl(t *testing.T) {
	s, site := startStub(t)
	run := s.Runner(site, "it")
	// Its pid namespace has given away no number but its own.
	if n, err := Sysctl(run, "kernel/ns_last_pid"); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := Sysctl(run, "kernel/no_such_number"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("error %v", err)
	}
	if err := run(func(s *Script) error {
		s.Space(int(site.Size))
		s.Must(unix.SYS_GETPID)
		return nil
	}, nil); err == nil {
		t.Error("a script larger than the site was run")
	}
}
