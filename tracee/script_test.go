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

// A result goes to as many steps as want it.
func TestAgain(t *testing.T) {
	p, site := startStub(t)
	s := NewScript(site.Base)
	opened := s.Must(unix.SYS_EVENTFD2, 7, 0)
	word := s.Space(8)
	reads := s.Must(unix.SYS_READ, 0, word, 8)
	s.Feed(opened, reads, 0)
	again := s.Again(opened)
	closes := s.Must(unix.SYS_CLOSE, 0)
	s.Feed(again, closes, 0)
	refused := s.Try(unix.SYS_CLOSE, ^uint64(0))
	length := s.Again(refused)
	s.Must(unix.SYS_GETPID)
	if err := p.Run(site, s); err != nil {
		t.Fatal(err)
	}
	if got := binary.LittleEndian.Uint64(s.Bytes(word, 8)); got != 7 {
		t.Errorf("read %d, not 7", got)
	}
	if _, err := s.Result(length); err != unix.EBADF {
		t.Errorf("the error of another step is %v, not EBADF", err)
	}
}
