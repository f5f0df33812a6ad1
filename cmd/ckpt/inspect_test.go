package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ckpt/image"
)

func TestSummaryText(t *testing.T) {
	created := time.Date(2026, 1, 17, 8, 5, 0, 0, time.Local)
	mem := image.Memory{Saved: 1_400_000_000}
	got := summaryText(&image.Summary{
		MadeBy: "ckpt", Name: "train", Command: []string{"python3", "train.py"}, Created: &created, Kernel: "6.18", Arch: "x86_64",
		Size: 1_500_000_000, Memory: mem, OwnNetwork: true,
		Processes: []image.Process{
			{VPID: 2, VPGID: 2, VSID: 2, Comm: "python3", Command: []string{"python3", "train.py"}, Cwd: "/home/eva\x1b", State: "running",
				Threads: make([]image.TaskThread, 11), Memory: mem,
				Files: []image.File{{FD: 0, Type: "file", What: "/dev/null"}, {FD: 12, Type: "tcp", What: "127.0.0.1:80 listening"}}},
			{VPID: 14, VPPID: 2, VPGID: 2, VSID: 2, Comm: "sh", State: "zombie", Threads: make([]image.TaskThread, 1)},
		},
	})
	want := `container  train
command    python3 train.py
saved      2026-01-17 08:05:00
made by    ckpt on Linux 6.18 x86_64
size       1.5 GB, of which 1.4 GB memory of processes
network    its own

VPID  PPID  PGID  SID  THREADS  STATE    MEMORY  COMMAND
   2     1     2    2       11  running  1.4 GB  python3 train.py
  14     2     2    2        1  zombie      0 B   \_ [sh]

pid 2 (python3): in /home/eva?
  FD  TYPE  WHAT
   0  file  /dev/null
  12  tcp   127.0.0.1:80 listening
`
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	criu := summaryText(&image.Summary{MadeBy: "criu", Size: 1000})
	if d := cmp.Diff("made by    criu\nsize       1.0 kB, of which 0 B memory of processes\n\nVPID  PPID  PGID  SID  THREADS  STATE  MEMORY  COMMAND\n", criu); d != "" {
		t.Error(d)
	}
}
