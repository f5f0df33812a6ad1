package memory

import (
	"strings"
	"testing"

	"ckpt/failure"
	"ckpt/kind"
	"ckpt/procfs"
)

// What smaps shows on machines that have it, and the tests' own may not.
func TestRefuse(t *testing.T) {
	for _, c := range []struct {
		name string
		m    procfs.Map
		says string // "": not refused
	}{
		{"plain", procfs.Map{Flags: []string{"rd", "wr"}}, ""},
		{"key", procfs.Map{Flags: []string{"rd", "wr"}, ProtectionKey: 3}, ""},
		{"shadow stack", procfs.Map{Flags: []string{"rd", "ss"}}, "a shadow stack (CET)"},
		{"userfaultfd", procfs.Map{Flags: []string{"rd", "ui"}}, "registered with userfaultfd"},
		{"device", procfs.Map{Path: "/dev/mem", Ino: 1, Shared: true, Flags: []string{"rd", "io", "pf"}}, "memory of a device"},
		{"ring", procfs.Map{Path: "anon_inode:[io_uring]", Ino: 1, Shared: true}, "memory of [io_uring]"},
		{"far away", procfs.Map{Start: 1 << 47, End: 1<<47 + page}, "addresses of more than 47 bits"},
		{"the last page", procfs.Map{Start: taskSize - page, End: taskSize}, ""},
		{"vsyscall", procfs.Map{Start: 0xffffffffff600000, End: 0xffffffffff601000, Path: "[vsyscall]"}, ""},
		{"vvar", procfs.Map{Path: "[vvar]", Flags: []string{"rd", "io", "pf"}}, ""},
	} {
		refused(t, c.name, refuse(&c.m), c.says)
	}
}

// Of hugetlbfs all is carried that leads to something.
func TestRefuseHuge(t *testing.T) {
	huge := func(path string, deleted, shared bool) procfs.Map {
		return procfs.Map{Path: path, Deleted: deleted, Shared: shared, Ino: 7, Flags: []string{"rd", "wr", "ht"}}
	}
	for _, c := range []struct {
		name string
		m    procfs.Map
		root bool
		says string
	}{
		{"private", huge(hugeName, true, false), false, ""},
		{"shared", huge(hugeName, true, true), false, ""},
		{"segment", huge("/SYSV00000000", true, true), false, ""},
		{"file", huge("/mnt/huge/file", false, true), false, ""},
		{"deleted file", huge("/mnt/huge/file", true, true), true, "a deleted file of hugetlbfs"},
		{"memfd", huge("/memfd:pool", true, true), true, ""},
		{"memfd", huge("/memfd:pool", true, true), false, "a memfd in huge pages that no process holds"},
	} {
		refused(t, c.name, refuseHuge(&kind.Dump{Privileged: c.root}, &c.m), c.says)
	}
}

func refused(t *testing.T, what string, err error, says string) {
	t.Helper()
	if says == "" {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		return
	}
	if err == nil || !strings.Contains(err.Error(), says) || len(failure.Hints(err)) == 0 {
		t.Errorf("%s: %v, want %q and a hint", what, err, says)
	}
}
