package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"ckpt/container"
)

func TestTexts(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 812: "812 B", 999: "999 B", 1000: "1.0 kB", 212_400_000: "212 MB",
		1_400_000_000: "1.4 GB", 9_960_000: "10 MB", 999_600: "1.0 MB", 1 << 63: "9.2 EB"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d bytes: %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{-time.Second: "0s", 59 * time.Second: "59s", 131 * time.Second: "2m11s",
		4*time.Hour + 2*time.Minute: "4h02m", 76 * time.Hour: "3d04h"} {
		if got := upText(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
	for d, want := range map[time.Duration]string{17600 * time.Microsecond: "18 ms", 1340 * time.Millisecond: "1.3 s", 131 * time.Second: "2m11s"} {
		if got := tookText(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
	if got := commandText([]string{"sh", "-c", "a\nb\x1b[2J"}); got != "sh -c a b?[2J" {
		t.Errorf("%q", got)
	}
}

func TestContainerTable(t *testing.T) {
	now := time.Unix(100000, 0)
	rec := func(name string, up time.Duration, cmd ...string) container.Record {
		return container.Record{Name: name, Created: now.Add(-up), Command: cmd, MainVPID: 2}
	}
	killed := rec("old", 0, "true")
	killed.Exit = &container.Exit{Signal: unix.SIGKILL}
	got := containerTable([]containerView{
		{rec: rec("train", 131*time.Second, "python3", "train.py"), state: container.Running,
			procs: []container.Process{{VPID: 2, PID: 48213, Memory: 1_000_000_000}, {Memory: 400_000_000}, {}}},
		{rec: rec("paused", 4*time.Hour, "cat"), state: container.Stopped, procs: []container.Process{{VPID: 14, PID: 812}}},
		{rec: killed, state: container.Exited},
		{rec: rec("lost", 0, "x"), state: container.Exited},
		{rec: rec("saved", 0, "y"), state: container.Dumped},
		{rec: container.Record{Name: "gone"}, state: container.Damaged},
	}, now)
	want := `NAME     STATE              UP      VPID   PID     PROCS   MEMORY   COMMAND
train    running            2m11s      2   48213   3       1.4 GB   python3 train.py
paused   stopped            4h00m      -       -   1       0 B      cat
old      exited (SIGKILL)   -          -       -   -       -        true
lost     exited             -          -       -   -       -        x
saved    dumped             -          -       -   -       -        y
gone     damaged            -          -       -   -       -
`
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestEndedText(t *testing.T) {
	rec := container.Record{Name: "a"}
	killed := container.Record{Name: "a", Exit: &container.Exit{Signal: unix.SIGKILL}}
	for want, v := range map[string]containerView{
		"a: exited (SIGKILL)\n":   {rec: killed, state: container.Exited},
		"a: exited\n":             {rec: rec, state: container.Exited},
		"a: dumped into /x/img\n": {rec: killed, state: container.Dumped, dumped: &container.Marker{Image: "/x/img"}},
		"a: dumped\n":             {rec: rec, state: container.Dumped, dumped: &container.Marker{}},
	} {
		if got := v.text(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestProcessTable(t *testing.T) {
	p := func(vpid, pid, ppid int, state byte, threads int, comm string, argv ...string) container.Process {
		q := container.Process{VPPID: 0, State: state, Comm: comm, Command: argv, Threads: make([]container.Thread, threads)}
		q.VPID, q.PID, q.VPPID, q.VPGID, q.VSID = vp(vpid), hp(pid), vp(ppid), vp(2), vp(2)
		return q
	}
	got := processTable([]container.Process{
		p(2, 48213, 1, 'S', 11, "python3", "python3", "train.py", "--epochs", "500"),
		p(14, 48231, 2, 'S', 1, "python3", "python3", "loader"),
		p(20, 48240, 14, 'Z', 1, "sh"),
		p(15, 48232, 2, 'R', 1, "python3", "python3", "loader"),
		p(30, 9, 1, 'S', 1, "orphan", "orphan"),
	})
	want := `VPID  PID    PPID  PGID  SID  THREADS  STATE  COMMAND
   2  48213     1     2    2       11  S      python3 train.py --epochs 500
  14  48231     2     2    2        1  S       \_ python3 loader
  20  48240    14     2    2        1  Z           \_ [sh]
  15  48232     2     2    2        1  R       \_ python3 loader
  30      9     1     2    2        1  S      orphan
`
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestCutLines(t *testing.T) {
	for _, tt := range []struct {
		n    int
		want string
	}{{0, "short\nätoo long\n"}, {9, "short\nätoo long\n"}, {6, "short\nätoo …\n"}} {
		if got := cutLines("short\nätoo long\n", tt.n); got != tt.want {
			t.Errorf("%d columns: %q, want %q", tt.n, got, tt.want)
		}
	}
}
