package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ckpt/image"
)

// TestProgressText is the line of a terminal.
func TestProgressText(t *testing.T) {
	for _, tt := range []struct {
		name  string
		phase image.PhaseState
		rate  float64
		left  time.Duration
		known bool
		want  barText
	}{
		{"train", image.PhaseState{Name: image.PhaseMemory, Processes: 3, Done: 7e8, Total: 1.4e9}, 1.2e9, 580 * time.Millisecond, true,
			barText{"train: 3 processes, 1.4 GB ", " 1.2 GB/s  1s left"}},
		{"train", image.PhaseState{Name: image.PhaseMemory, Processes: 1, Total: 1.4e9}, 0, 0, false,
			barText{"train: 1 process, 1.4 GB ", ""}},
		{"train", image.PhaseState{Name: image.PhaseMemory, Processes: 1, Done: 1e6, Total: 1.4e9}, 0, 0, false,
			barText{"train: 1 process, 1.4 GB ", " 0 B/s"}},
		{"-", image.PhaseState{Name: image.PhaseStream, Done: 5e6}, 2e6, 0, false,
			barText{"-: stream, 5.0 MB ", " 2.0 MB/s"}},
		{"./a\nb\x1b[2J/" + strings.Repeat("x", 100), image.PhaseState{Name: image.PhaseChecksums, Done: 5e6, Total: 1e9}, 2e6, 497500 * time.Millisecond, true,
			barText{"./a b?[2J/xxxxxxxxxxxxxxxxxxx…: checksums, 1.0 GB ", " 2.0 MB/s  8m18s left"}},
	} {
		got := progressText(subject{"dump", tt.name}, &tt.phase, tt.rate, tt.left, tt.known)
		if got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.phase, got, tt.want)
		}
	}
}

// TestJSONLines: what goes on, and what has ended since, in order.
func TestJSONLines(t *testing.T) {
	began := time.Date(2026, 1, 17, 8, 5, 0, 0, time.UTC)
	at := func(d time.Duration) time.Time { return began.Add(d) }
	var b bytes.Buffer
	j := newJSONLines(&b)
	what := subject{"restore", "train"}
	stream := image.PhaseState{Name: image.PhaseStream, Done: 500, Began: began}
	j.show(at(500*time.Millisecond), what, []image.PhaseState{stream})
	stream.Done, stream.Total, stream.Ended = 1000, 1000, at(800*time.Millisecond)
	memory := image.PhaseState{Name: image.PhaseMemory, Done: 200, Total: 4000, Began: stream.Ended}
	sums := image.PhaseState{Name: image.PhaseChecksums, Done: 300, Total: 300, Began: stream.Ended, Ended: at(900 * time.Millisecond)}
	files := image.PhaseState{Name: image.PhaseFiles, Began: began, Ended: began}
	j.show(at(time.Second), what, []image.PhaseState{files, stream, memory, sums})
	memory.Done, memory.Total, memory.Ended = 4000, 4000, at(2800*time.Millisecond)
	j.end(at(3*time.Second), what, []image.PhaseState{files, stream, memory, sums})
	want := `{"time":"2026-01-17T08:05:00.5Z","what":"restore","name":"train","phase":"stream","bytes":500,"rate":1000,"ended":false}
{"time":"2026-01-17T08:05:00.8Z","what":"restore","name":"train","phase":"stream","bytes":1000,"total":1000,"rate":1250,"seconds_left":0,"ended":true}
{"time":"2026-01-17T08:05:01Z","what":"restore","name":"train","phase":"memory","bytes":200,"total":4000,"rate":1000,"seconds_left":3.8,"ended":false}
{"time":"2026-01-17T08:05:02.8Z","what":"restore","name":"train","phase":"memory","bytes":4000,"total":4000,"rate":2000,"seconds_left":0,"ended":true}
{"time":"2026-01-17T08:05:00.9Z","what":"restore","name":"train","phase":"checksums","bytes":300,"total":300,"rate":3000,"seconds_left":0,"ended":true}
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Error(d)
	}
}

// TestNoView: nothing is shown where nobody sits, and nobody has asked.
func TestNoView(t *testing.T) {
	for _, flag := range []string{progressAuto, progressNone} {
		a := &app{err: new(bytes.Buffer), getenv: func(string) string { return "xterm" }, global: globalOptions{progress: flag}}
		w := a.wait("dump", "train")
		if w.view != nil || w.here != nil || w.toldBy() != nil {
			t.Errorf("--progress %s: %+v", flag, w)
		}
		w.end()
		w.end()
	}
}
