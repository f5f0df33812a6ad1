package main

import (
	"io"
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/creack/pty"

	"ckpt/image"
)

// TestBarWrite: what is said while a bar is drawn stands above it, and nothing of the
// bar is left below.
func TestBarWrite(t *testing.T) {
	keys, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer keys.Close()
	if err := pty.Setsize(tty, &pty.Winsize{Rows: 24, Cols: 80}); err != nil {
		t.Fatal(err)
	}
	a := &app{err: tty, getenv: func(name string) string { return map[string]string{"TERM": "xterm", "LANG": "en_US.UTF-8"}[name] }, global: globalOptions{progress: progressAuto}}
	v, undo := a.newView()
	b, ok := v.(*bar)
	if !ok || a.err != io.Writer(b) {
		t.Fatalf("the view of a terminal is %T", v)
	}
	say := func(text string) {
		t.Helper()
		if _, err := io.WriteString(a.err, text); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	phase := image.PhaseState{Name: image.PhaseMemory, Done: 3e8, Total: 4e8, Began: began}
	say("before\n")
	b.show(began.Add(progressDelay-1), subject{"dump", "train"}, []image.PhaseState{phase}) // too early
	say("still before\n")
	b.show(began.Add(2*progressDelay), subject{"dump", "train"}, []image.PhaseState{phase})
	say("meanwhile\n")
	b.end(time.Now(), subject{}, nil)
	undo()
	if a.err != io.Writer(tty) {
		t.Errorf("it goes on to write to %T", a.err)
	}
	say("after\n.")
	line := `train: memory, 400 MB  ━{15} {5}  300 MB/s  1s left\r\n`
	want := regexp.MustCompile(`^before\r\nstill before\r\n(` + line + `\x1b\[1A\x1b\[J)*meanwhile\r\n(` + line + `\x1b\[1A\x1b\[J)+after\r\n\.$`)
	if got := shown(t, keys); !want.MatchString(got) {
		t.Errorf("the terminal shows %q, want something like %v", got, want)
	}
}

// shown reads what is written up to a full stop.
func shown(t *testing.T, keys *os.File) (all string) {
	t.Helper()
	for b := make([]byte, 4096); len(all) == 0 || all[len(all)-1] != '.'; {
		n, err := keys.Read(b)
		if err != nil {
			t.Fatalf("after %q: %v", all, err)
		}
		all += string(b[:n])
	}
	return all
}

// TestMovesCursor: a line is drawn only where it can be taken back.
func TestMovesCursor(t *testing.T) {
	for term, want := range map[string]bool{"": false, "dumb": false, "linux": true, "tmux-256color": true} {
		a := &app{getenv: func(string) string { return term }}
		if got := a.movesCursor(); got != want {
			t.Errorf("TERM=%s: %v", term, got)
		}
	}
}

func TestUTF8(t *testing.T) {
	for _, tt := range []struct {
		env  map[string]string
		want bool
	}{
		{nil, false},
		{map[string]string{"LANG": "C"}, false},
		{map[string]string{"LANG": "de_DE.UTF-8"}, true},
		{map[string]string{"LANG": "de_DE.utf8", "LC_ALL": "POSIX"}, false},
		{map[string]string{"LC_CTYPE": "C.UTF-8", "LANG": "C"}, true},
	} {
		a := &app{getenv: func(name string) string { return tt.env[name] }}
		if got := a.utf8(); got != tt.want {
			t.Errorf("%v: %v", tt.env, got)
		}
	}
}
