package restore

import (
	"strings"
	"testing"

	"ckpt/failure"
)

func TestRoom(t *testing.T) {
	r := room{threads: 10, pids: 20, memory: 1_000_000_000, groups: []group{{"/user.slice/job", 1000, 1_900_000_000}, {"/user.slice", 30, 5_000_000_000}}}
	for _, tt := range []struct {
		tasks, memory uint64
		want          []string
	}{
		{10, 1_000_000_000, nil},
		{11, 0, []string{"it has 11 threads, and kernel.threads-max leaves room for 10"}},
		{31, 2_000_000_000, []string{"kernel.threads-max", "kernel.pid_max leaves room for 20",
			"its memory is 2000 MB, and memory.max of the control group /user.slice/job is 1900 MB", "pids.max of the control group /user.slice leaves room for 30",
			"its memory is 2000 MB, and 1000 MB are free"}},
	} {
		got := r.lacks(tt.tasks, tt.memory)
		if len(got) != len(tt.want) {
			t.Errorf("%d threads, %d bytes: %v", tt.tasks, tt.memory, got)
			continue
		}
		for i, want := range tt.want {
			if !strings.Contains(got[i].Error(), want) || len(failure.Hints(got[i])) == 0 {
				t.Errorf("%v (%q), want %s", got[i], failure.Hints(got[i]), want)
			}
		}
	}
	if r, err := readRoom(); err != nil || r.threads == 0 || r.pids == 0 || r.memory == 0 {
		t.Errorf("here: %+v (%v)", r, err)
	}
}
