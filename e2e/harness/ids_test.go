package harness

import (
	"strings"
	"testing"
)

func TestSameInside(t *testing.T) {
	proc := func(vpid, pid int, comm string, tids ...int) Process {
		p := Process{VPID: vpid, PID: pid, VPPID: 1, VPGID: vpid, VSID: vpid, Comm: comm}
		for i, tid := range tids {
			p.Threads = append(p.Threads, Thread{VTID: vpid + i, TID: tid})
		}
		return p
	}
	ps := func(p ...Process) Ps { return Ps{Processes: p} }
	before := ps(proc(2, 100, "java", 100, 101))
	tests := []struct {
		name          string
		before, after Ps
		churn         Churn
		want          string
	}{
		{"same", before, ps(proc(2, 200, "java", 200, 201)), Churn{}, ""},
		{"other pid inside", before, ps(proc(3, 200, "java", 200, 201)), Churn{}, "differ"},
		{"thread lost", before, ps(proc(2, 200, "java", 200)), Churn{Threads: true}, "differ"},
		{"thread more", before, ps(proc(2, 200, "java", 200, 201, 202)), Churn{}, "differ"},
		{"thread more, as it may", before, ps(proc(2, 200, "java", 200, 201, 202)), Churn{Threads: true}, ""},
		{"process more", before, ps(proc(2, 200, "java", 200, 201), proc(9, 209, "sh", 209)), Churn{}, "differ"},
		{"process more, as it may", before, ps(proc(2, 200, "java", 200, 201), proc(9, 209, "sh", 209)), Churn{Comms: []string{"sh"}}, ""},
		{"never ended", before, before, Churn{}, "the same process"},
		{"thread never ended", before, ps(proc(2, 200, "java", 200, 101)), Churn{}, "the same thread"},
		{"nothing", ps(), ps(), Churn{}, "no process"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			if err := SameInside(tt.before, tt.after, tt.churn); err != nil {
				got = err.Error()
			}
			if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want one that contains %q", got, tt.want)
			}
		})
	}
}
