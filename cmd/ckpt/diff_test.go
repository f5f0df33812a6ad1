package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"ckpt/inspect/diff"
)

func TestDiffText(t *testing.T) {
	mem := diff.Amount{Changed: 8192, Added: 4096}
	got := diffText(&diff.Report{
		Container: []diff.Change{{What: "host name", Was: "a", Is: "b\x1b"}},
		Ended:     []diff.ID{{VPID: 3, VPPID: 2, Comm: "sh", Command: []string{"sh", "-c", "x"}}},
		Came:      []diff.ID{{VPID: 9, Comm: "cat", Command: []string{"cat"}}},
		Processes: []diff.Process{
			{VPID: 2, Comm: "job", Ran: []uint32{2}, Changes: []diff.Change{{What: "fd 3", Is: "file /x"}, {What: "fd 4", Was: "pipe reading end"}},
				Memory: []diff.MemoryPart{{Mapping: "0x1000-0x2000 rw-p [heap]", Amount: mem}}},
			{VPID: 7, Comm: "java", Ran: []uint32{7, 8}},
			{VPID: 8, Comm: "idle", Changes: []diff.Change{{What: "umask", Was: "022", Is: "077"}}},
		},
		Memory: mem,
	})
	want := `host name: a -> b?
pid 3 (sh) ended: sh -c x
pid 9 (cat) came, of pid 1: cat
pid 2 (job) ran
  fd 3: now file /x
  fd 4: no longer pipe reading end
  MEMORY                        MAPPING
  8.2 kB changed, 4.1 kB added  0x1000-0x2000 rw-p [heap]
pid 7 (java) ran: threads 7, 8
pid 8 (idle): its registers are as they were
  umask: 022 -> 077
memory of all: 8.2 kB changed, 4.1 kB added
`
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if got := diffText(&diff.Report{Same: true}); got != "the same, but for the time\n" {
		t.Errorf("%q", got)
	}
}
