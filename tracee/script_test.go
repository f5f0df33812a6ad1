package tracee

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// A result goes where it is wanted, and what a call has stored in another's
// arguments can be read.
func TestStoreAndArg(t *testing.T) {
	p, site := startStub(t)
	s := NewScript(site.Base)
	word, pipe := s.Space(8), s.Space(8)
	s.Store(s.Must(unix.SYS_GETPID), word)
	of := s.Must(unix.SYS_CLOCK_GETRES, unix.CLOCK_MONOTONIC, 0)
	end := s.Must(unix.SYS_PIPE2, pipe, 0)
	s.Aim(of, 1, end, 2)
	if err := p.Run(site, s); err != nil {
		t.Fatal(err)
	}
	if got := binary.LittleEndian.Uint64(s.Bytes(word, 8)); got != 1 {
		t.Errorf("getpid gave %d, not 1", got)
	}
	if got := s.Arg(end, 3); got == 0 {
		t.Error("no resolution of the clock in the arguments behind")
	}
}
