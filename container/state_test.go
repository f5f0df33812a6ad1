package container

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestStateOf(t *testing.T) {
	procs := func(states string) (ps []Process) {
		for _, s := range []byte(states) {
			ps = append(ps, Process{State: s})
		}
		return ps
	}
	for _, c := range []struct {
		name   string
		alive  bool
		states string
		marked bool
		want   State
	}{
		{"one runs", true, "S", false, Running},
		{"some run", true, "TST", false, Running},
		{"all stopped", true, "TT", false, Stopped},
		{"zombies do not count", true, "TZ", false, Stopped},
		{"only zombies", true, "Z", false, Running},
		{"none yet", true, "", false, Running},
		{"a tracing stop is none", true, "tT", false, Running},
		{"a mark of a dump that did not end it", true, "S", true, Running},
		{"dead", false, "", false, Exited},
		{"dead and saved", false, "", true, Dumped},
	} {
		if got := stateOf(c.alive, procs(c.states), c.marked); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestExit(t *testing.T) {
	at := time.Unix(1, 0)
	for ws, want := range map[unix.WaitStatus]struct {
		status int
		text   string
	}{
		0:                                {0, "0"},
		3 << 8:                           {3, "3"},
		unix.WaitStatus(unix.SIGKILL):    {137, "SIGKILL"},
		unix.WaitStatus(11 | 0x80):       {139, "SIGSEGV"}, // with a core
		unix.WaitStatus(unix.Signal(40)): {168, "signal 40"},
	} {
		e := ExitOf(ws, at)
		if e.Status() != want.status || e.String() != want.text || e.At != at {
			t.Errorf("%#x: %d %q, want %v", int(ws), e.Status(), e.String(), want)
		}
	}
}

func TestSortSiblings(t *testing.T) {
	// 2 has 9 and 3; 9 has 4: as the walk finds them, by host pid
	ps := []Process{{VPID: 9, VPPID: 2}, {VPID: 4, VPPID: 9}, {VPID: 3, VPPID: 2}, {VPID: 5, VPPID: 3}}
	sortSiblings(ps, 2)
	var got []int
	for _, p := range ps {
		got = append(got, int(p.VPID))
	}
	if d := cmp.Diff([]int{3, 5, 9, 4}, got); d != "" {
		t.Error(d)
	}
}
