package harness

import (
	"fmt"
	"strings"
	"testing"
)

// Speaker is what runs a program, in a container or not yet.
type Speaker interface {
	Log() string
	Alive() error
}

// Says waits until a program has written a line. What it says is wrong ends
// the test at once.
func Says(t testing.TB, who Speaker, line string) {
	t.Helper()
	Eventually(t, "it says "+line, func() error {
		log := who.Log()
		if strings.Contains(log, "BAD") {
			t.Fatalf("it says:\n%s", log)
		}
		if strings.Contains(log, line+"\n") {
			return nil
		}
		if err := who.Alive(); err != nil {
			if strings.Contains(who.Log(), line+"\n") { // the last it said
				return nil
			}
			return err
		}
		return fmt.Errorf("so far: %q", log)
	})
}

// Says waits until the container's log has a line.
func (c *Container) Says(line string) {
	c.Env.T.Helper()
	Says(c.Env.T, c, line)
}

// Subject is a container whose program looks at itself whenever it is asked
// (e2e/program/state.h).
type Subject struct {
	*Container
	looks, images int
}

// Watch starts a Subject, which has had its first look when Watch returns.
func (e *Env) Watch(name string, flags []string, command ...string) *Subject {
	e.T.Helper()
	s := &Subject{Container: e.Start(name, flags, command...)}
	s.Says("ready")
	return s
}

// Look has the program look again; what differs from the first look ends the
// test.
func (s *Subject) Look() {
	s.Env.T.Helper()
	s.looks++
	s.Kill("USR1")
	s.Says(fmt.Sprintf("good %d", s.looks))
}

// Finish has it look for the last time, at what only a last look can see.
func (s *Subject) Finish() {
	s.Env.T.Helper()
	s.Kill("USR2")
	s.Says("done")
}

// Image is where the next image goes.
func (s *Subject) Image() string {
	s.images++
	return s.Env.Join(fmt.Sprintf("image%d", s.images))
}

// Generation saves the container and brings it back.
func (s *Subject) Generation() {
	s.Env.T.Helper()
	image := s.Image()
	s.Dump(image)
	s.Env.Restore(image, "")
}

// GoesOn waits for three more steps of each.
func GoesOn(t testing.TB, s Speaker, j *Journal, who ...string) {
	t.Helper()
	read := func() error { return j.Read(s.Log()) }
	if err := read(); err != nil {
		t.Fatal(err)
	}
	had := map[string]int{}
	for _, w := range who {
		had[w] = j.Last(w).N
	}
	Eventually(t, "it goes on", func() error {
		if err := read(); err != nil {
			return Final{Err: err}
		}
		for _, w := range who {
			if j.Last(w).N < had[w]+3 {
				if err := s.Alive(); err != nil {
					return err
				}
				return fmt.Errorf("%s has taken %d steps", w, j.Last(w).N)
			}
		}
		return nil
	})
}
