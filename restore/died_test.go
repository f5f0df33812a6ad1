package restore

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/pidns"
	"ckpt/tracee"
)

// TestDied: whatever fails when a process was killed, that is what is told.
func TestDied(t *testing.T) {
	raw := errors.New("whatever fails then")
	for _, tt := range []struct {
		name   string
		victim pidns.VPID
		want   string
	}{
		{"nobody", 0, raw.Error()},
		{"vpid 1", 1, "restore: the container ended meanwhile: its first process was killed"},
		{"a process", 3, "restore pid 3 (program): it ended meanwhile, killed by a signal"},
		{"a helper", 9, "restore pid 9: it ended meanwhile, killed by a signal (a helper process)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := inContainer(t, 2, 3, 4)
			s.r.Targets[2].Zombie = true
			must(t, s.tree())
			if !s.ended[4] {
				t.Error("the zombie is not known to have ended")
			}
			var err error
			s.stubs[9], err = tracee.ForkStub(s.root.Thread, s.root.Site, tracee.ForkOptions{VPID: 9, ExitSignal: unix.SIGCHLD})
			must(t, err)
			if tt.victim != 0 {
				must(t, unix.Kill(s.stubs[tt.victim].PID, unix.SIGKILL))
			}
			if got := s.died(raw); got.Error() != tt.want {
				t.Errorf("told at once: %v\nwant %s", got, tt.want)
			}
			if tt.victim == 0 {
				return
			}
			if err := s.call(tt.victim, unix.SYS_GETPID); err == nil {
				t.Error("it runs calls")
			}
			if got := s.died(raw); got.Error() != tt.want {
				t.Errorf("told when it was waited for: %v\nwant %s", got, tt.want)
			}
		})
	}
}

// TestStillborn: one that is killed as it is born is not among the bare children.
func TestStillborn(t *testing.T) {
	s := inContainer(t, 2, 3)
	must(t, s.tree())
	delete(s.stubs, 3)
	s.stillborn = 3
	want := "restore pid 3 (program): it ended meanwhile, killed by a signal"
	if got := s.died(tracee.ErrGone); got.Error() != want {
		t.Errorf("%v\nwant %s", got, want)
	}
}

// TestDiedAtTheEnd: nothing is done to a process any more but to let it go.
func TestDiedAtTheEnd(t *testing.T) {
	for victim, want := range map[pidns.VPID]string{
		1: "restore: the container ended meanwhile: its first process was killed",
		2: "restore pid 2 (program): it ended meanwhile, killed by a signal",
	} {
		s := inContainer(t, 2, 3)
		must(t, s.tree())
		must(t, unix.Kill(s.stubs[victim].PID, unix.SIGKILL))
		if err := s.letGo(); err == nil || err.Error() != want {
			t.Errorf("let go with error %v, want %s", err, want)
		}
	}
}
