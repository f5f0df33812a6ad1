package harness

import (
	"fmt"
	"strings"
	"testing"
)

func line(who string, n int, at int64, ids string) string {
	return fmt.Sprintf(`{"who":%q,"n":%d,"mono":%d,"real":%d,"ids":%q,"count":0}`+"\n", who, n, at, at, ids)
}

func TestJournal(t *testing.T) {
	a := line("a", 1, 10, "2") + line("a", 2, 20, "2") + line("b", 1, 15, "3")
	jump := `{"who":"a","n":3,"mono":9000000000,"real":30,"ids":"2","count":0}` + "\n"
	back := `{"who":"a","n":3,"mono":19,"real":30,"ids":"2","count":0}` + "\n"
	fewer := `{"who":"a","n":3,"mono":30,"real":30,"ids":"2","count":-1}` + "\n"
	tests := []struct {
		name   string
		next   string
		rewind bool
		want   string
	}{
		{"goes on in a new log", line("a", 3, 30, "2") + line("b", 2, 30, "3"), false, ""},
		{"goes on in the same log", a + line("a", 3, 30, "2"), false, ""},
		{"line half written", line("a", 3, 30, "2") + `{"who":`, false, ""},
		{"gap", line("a", 4, 30, "2"), false, "step 4 after step 2"},
		{"again", line("a", 2, 30, "2"), false, "twice"},
		{"again, in a copy", line("a", 2, 30, "2") + line("a", 3, 31, "2"), true, ""},
		{"again twice, in a copy", line("a", 2, 30, "2") + line("a", 2, 31, "2"), true, "twice"},
		{"gap in a copy", line("a", 2, 30, "2") + line("a", 4, 31, "2"), true, "step 4 after step 2"},
		{"another id", line("a", 3, 30, "7"), false, "ids"},
		{"clock too fast", jump, false, "CLOCK_MONOTONIC"},
		{"clock back", back, false, "CLOCK_MONOTONIC"},
		{"count fell", fewer, false, "counted"},
		{"error", "error: read: Interrupted system call\n", false, "Interrupted"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var j Journal
			if err := j.Read(a); err != nil {
				t.Fatal(err)
			}
			if tt.rewind {
				j.Rewind()
			}
			got := ""
			if err := j.Read(tt.next); err != nil {
				got = err.Error()
			}
			if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want one that contains %q", got, tt.want)
			}
		})
	}
}
