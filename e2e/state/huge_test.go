package state

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"ckpt/e2e/harness"
)

// pool is a file of how many huge pages of 2 MB the machine sets aside.
const pool = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"

// TestHugePages: private memory of hugetlbfs, and a machine that has too few
// pages to bring it back.
func TestHugePages(t *testing.T) {
	if os.Geteuid() != 0 {
		return // an ordinary user sets none aside
	}
	was := setPool(t, -1)
	t.Cleanup(func() { setPool(t, was) })
	for _, user := range harness.Users() {
		t.Run("as "+user, func(t *testing.T) {
			setPool(t, was+5) // as many as it has, or may have
			e := harness.New(t, user)
			s := e.Watch("hugepages", nil, harness.Program(t, "hugepages.c"))
			s.Look()
			for range 2 {
				s.Generation()
				s.Look()
			}
			s.Dump(s.Image(), "--leave-running")
			s.Look()
			image := s.Image()
			s.Dump(image)
			setPool(t, was+4)
			r := e.Try("restore", image)
			if r.Code != 3 || !strings.Contains(r.Err, "it needs 5 huge pages of 2048 kB, and ") || !strings.Contains(r.Err, "hint: reserve more: echo NUMBER > "+pool) {
				t.Error(r)
			}
			setPool(t, was+5)
			e.Restore(image, "")
			s.Look()
			s.Finish()
		})
	}
}

// TestSharedHugePages: what processes share of them, and a memfd and a segment in
// them.
func TestSharedHugePages(t *testing.T) {
	if os.Geteuid() != 0 {
		return // an ordinary user sets none aside
	}
	was := setPool(t, -1)
	t.Cleanup(func() { setPool(t, was) })
	for _, user := range harness.Users() {
		for _, what := range []string{"shared", "segment"} {
			if what == "segment" && !harness.AsRoot(user) {
				continue // an ordinary user makes none (vm.hugetlb_shm_group)
			}
			t.Run(what+" as "+user, func(t *testing.T) {
				setPool(t, was+10)
				e := harness.New(t, user)
				s := e.Watch("hugepages", nil, harness.Program(t, "hugepages.c"), what)
				s.Look()
				for range 2 {
					s.Generation()
					s.Look()
				}
				s.Dump(s.Image(), "--leave-running")
				s.Look()
				image := s.Image()
				s.Dump(image)
				setPool(t, was)
				r := e.Try("restore", image)
				if r.Code == 0 || !strings.Contains(r.Err, "hint: ") || !strings.Contains(r.Err, "huge pages") {
					t.Error(r)
				}
				setPool(t, was+10)
				e.Restore(image, "")
				s.Look()
			})
		}
		if harness.AsRoot(user) {
			continue
		}
		t.Run("closed as "+user, func(t *testing.T) {
			setPool(t, was+10)
			e := harness.New(t, user)
			s := e.Watch("hugepages", nil, harness.Program(t, "hugepages.c"), "closed")
			for _, args := range [][]string{{"check", s.Name}, {"dump", s.Name, e.Join("image")}} {
				r := e.Try(args...)
				if said := r.Out + r.Err; r.Code != 3 || !strings.Contains(said, "a memfd in huge pages that no process holds as a descriptor") || !strings.Contains(said, "let the program keep the descriptor open") {
					t.Error(r)
				}
			}
		})
	}
}

// setPool sets that number, and gives what it was; -1 leaves it.
func setPool(t *testing.T, n int) (was int) {
	t.Helper()
	b, err := os.ReadFile(pool)
	if err == nil {
		was, err = strconv.Atoi(strings.TrimSpace(string(b)))
	}
	if err == nil && n >= 0 {
		err = os.WriteFile(pool, strconv.AppendInt(nil, int64(n), 10), 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return was
}
