package tracee

import (
	"encoding/binary"
	"os"
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

// TestPeek: what has returned shows while a later call still waits.
func TestPeek(t *testing.T) {
	var ends [3][2]*os.File
	for i := range ends {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		defer w.Close()
		ends[i] = [2]*os.File{r, w}
	}
	first, told, last := ends[0], ends[1], ends[2]
	stub, site := startStub(t, first[0], told[1], last[0]) // descriptors 3, 4, 5
	if _, err := first[1].WriteString("four"); err != nil {
		t.Fatal(err)
	}
	s := NewScript(site.Base)
	buf := s.Space(8)
	done := s.Must(unix.SYS_READ, 3, buf, 8)
	s.Must(unix.SYS_WRITE, 4, buf, 1)
	waits := s.Must(unix.SYS_READ, 5, buf, 8)
	if err := stub.Start(site, s); err != nil {
		t.Fatal(err)
	}
	if _, err := told[0].Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if a, b := s.Peek(stub.TID, done), s.Peek(stub.TID, waits); a != 4 || b != 0 {
		t.Errorf("the first call has returned %d, and the last %d", a, b)
	}
	if _, err := last[1].WriteString("last"); err != nil {
		t.Fatal(err)
	}
	if err := stub.Finish(site, s); err != nil {
		t.Fatal(err)
	}
	for _, step := range []Step{done, waits} {
		if n, err := s.Result(step); n != 4 || err != nil {
			t.Errorf("call %d has returned %d (%v)", step, n, err)
		}
	}
}
