package main

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ckpt/image"
)

func TestSummaryText(t *testing.T) {
	created := time.Date(2026, 1, 17, 8, 5, 0, 0, time.Local)
	mem := image.Memory{Saved: 1_400_000_000, Mapped: 2_000_000_000, Heap: image.Amount{Saved: 1_399_000_000}, Shared: image.Amount{Saved: 1_000_000}}
	timer := uint32(7)
	got := summaryText(&image.Summary{
		MadeBy: "ckpt", Name: "train", Command: []string{"python3", "train.py"}, Created: &created, Kernel: "6.18", Arch: "x86_64",
		Size: 1_500_000_000, Memory: mem, OwnNetwork: true,
		Processes: []image.Process{
			{VPID: 2, VPGID: 2, VSID: 2, Comm: "python3", Command: []string{"python3", "train.py"}, Cwd: "/home/eva\x1b", State: "running",
				Threads: slices.Repeat([]image.TaskThread{{VTID: 3, Comm: "w"}}, 12), Memory: mem, UID: 1000, GID: 100, Pending: []uint32{10, 40},
				Timers: []image.Timer{{Type: "real", Left: 1500 * time.Millisecond, Interval: time.Second}, {Type: "posix", ID: &timer, Signal: 14}, {Type: "virtual", Left: time.Second}},
				Files:  []image.File{{FD: 0, Type: "file", What: "/dev/null"}, {FD: 12, Type: "tcp", What: "127.0.0.1:80 listening"}}},
			{VPID: 14, VPPID: 2, VPGID: 2, VSID: 2, Comm: "sh", State: "zombie", Threads: make([]image.TaskThread, 1)},
			{VPID: 15, VPPID: 2, VPGID: 2, VSID: 2, Comm: "sh", State: "running", Threads: make([]image.TaskThread, 1), SharesMemory: 2},
		},
		Sockets: []image.Socket{{ID: 4, Type: "tcp", What: "127.0.0.1:80 listening", VPIDs: []uint32{2, 3, 4, 5, 6, 7, 8}}, {ID: 17, Type: "unix", What: "stream", VPIDs: []uint32{2}}},
		Pages:   image.PageBytes{Stored: 400_000_000, Common: 5_000_000, InParent: 1_000_000_000}, Parent: "../monday", Compressed: true, Encrypted: true, SignedBy: "SHA256:x", CPU: "AMD EPYC", HostName: "box",
	})
	want := `container  train
command    python3 train.py
saved      2026-01-17 08:05:00
made by    ckpt on Linux 6.18 x86_64
processor  AMD EPYC
host name  box
size       1.5 GB, for 1.4 GB memory of processes
stored     compressed, encrypted, signed by SHA256:x
pages      400 MB stored (before compression), 5.0 MB in common, 1.0 GB in the parent image ../monday
network    its own

VPID  PPID  PGID  SID  THREADS  STATE    MEMORY  COMMAND
   2     1     2    2       12  running  1.4 GB  python3 train.py
  14     2     2    2        1  zombie      0 B   \_ [sh]
  15     2     2    2        1  running     0 B   \_ [sh]

SOCKET  TYPE  WHAT                    VPIDS
     4  tcp   127.0.0.1:80 listening  2 3 4 5 6 and 2 others
    17  unix  stream                  2

pid 2 (python3): in /home/eva?, uid 1000, gid 100
  memory   1.4 GB heap, 1.0 MB shared, 2.0 GB mapped
  threads  3 (w), 3 (w), 3 (w), 3 (w), 3 (w), 3 (w), 3 (w), 3 (w), 3 (w), 3 (w), 2 others
  timers   real in 1.5s, then every 1s; posix 7 SIGALRM not armed; virtual in 1s
  signals  SIGUSR1, signal 40 pending
  FD  TYPE  WHAT
   0  file  /dev/null
  12  tcp   127.0.0.1:80 listening

pid 15 (sh): uid 0, gid 0
  memory   the same as that of pid 2
`
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	criu := summaryText(&image.Summary{MadeBy: "criu", Size: 1000})
	if d := cmp.Diff("made by    criu\nsize       1.0 kB, for 0 B memory of processes\n\nVPID  PPID  PGID  SID  THREADS  STATE  MEMORY  COMMAND\n", criu); d != "" {
		t.Error(d)
	}
}
