package memfd_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/image"
	"ckpt/kind/kindtest"
	"ckpt/kind/memfd"
)

func create(t *testing.T, name string, flags int) *os.File {
	t.Helper()
	fd, err := unix.MemfdCreate(name, flags|unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), name)
	t.Cleanup(func() { f.Close() })
	return f
}

func put(t *testing.T, f *os.File, at int64, b string) {
	t.Helper()
	if _, err := f.WriteAt([]byte(b), at); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, f *os.File) string {
	t.Helper()
	s, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func reopen(t *testing.T, f *os.File, flags int) *os.File {
	t.Helper()
	g, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), flags, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return g
}

func get(t *testing.T, f *os.File, cmd int) int {
	t.Helper()
	n, err := unix.FcntlInt(f.Fd(), cmd, 0)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func stat(t *testing.T, f *os.File) (st unix.Stat_t) {
	t.Helper()
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return st
}

// execute runs the file behind a descriptor, and says how that failed.
func execute(t *testing.T, f *os.File) error {
	t.Helper()
	cmd := exec.Command(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	cmd.Path = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd())
	return cmd.Run()
}

// A memfd can be executed while the descriptor that it was made with is open
// for writing, one opened later is in the way.
func TestExecute(t *testing.T) {
	made := create(t, "true", 0)
	script := "#!/bin/true\n"
	if err := made.Truncate(int64(len(script))); err != nil {
		t.Fatal(err)
	}
	put(t, made, 0, script)
	reader := reopen(t, made, os.O_RDONLY)
	if err := execute(t, made); err != nil {
		t.Fatal(err)
	}
	b := kindtest.New(t, memfd.Kind)
	got := b.Restore(b.Dump(reader, made))
	if err := execute(t, got[0]); err != nil {
		t.Errorf("once restored: %v", err)
	}
	again := reopen(t, made, os.O_RDWR)
	got = b.Restore(b.Dump(reader, made, again))
	if err := execute(t, got[0]); !errors.Is(err, unix.ETXTBSY) {
		t.Errorf("with a second writer: %v, want ETXTBSY", err)
	}
}

// A sparse file of no whole number of pages, with two descriptions.
func TestContents(t *testing.T) {
	const size = 64<<20 + 123
	in := create(t, "a name (deleted)", 0)
	if err := in.Truncate(size); err != nil {
		t.Fatal(err)
	}
	put(t, in, 0, "start")
	put(t, in, 10<<20-2, "across pages")
	put(t, in, size-3, "end")
	if err := unix.Fchown(int(in.Fd()), 1000, 1001); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fchmod(int(in.Fd()), 0o640); err != nil {
		t.Fatal(err)
	}
	reader := reopen(t, in, os.O_RDONLY)
	if _, err := reader.Seek(7, 0); err != nil {
		t.Fatal(err)
	}
	b := kindtest.New(t, memfd.Kind)
	saved := b.Dump(in, reader)
	pages, err := image.PageRuns(saved.Open(t), "shmem-1")
	if err != nil {
		t.Fatal(err)
	}
	pages.Close()
	var n uint64
	for _, r := range pages.Runs {
		n += r.Pages
	}
	if n != 4 {
		t.Errorf("%d pages written (%+v), want 4", n, pages.Runs)
	}
	got := b.Restore(saved)
	for i, f := range []*os.File{in, reader} {
		if get(t, got[i], unix.F_GETFL) != get(t, f, unix.F_GETFL) || link(t, got[i]) != link(t, f) {
			t.Errorf("%q flags %#o, want %q %#o", link(t, got[i]), get(t, got[i], unix.F_GETFL), link(t, f), get(t, f, unix.F_GETFL))
		}
		old, st := stat(t, f), stat(t, got[i])
		if st.Size != old.Size || st.Blocks != old.Blocks || st.Mode != old.Mode || st.Uid != old.Uid || st.Gid != old.Gid || st.Mtim != old.Mtim || st.Atim != old.Atim {
			t.Errorf("restored as %+v, want %+v", st, old)
		}
	}
	a, z := make([]byte, 12<<20), make([]byte, 12<<20)
	for _, at := range []int64{0, size - 12<<20} {
		if _, err := in.ReadAt(a, at); err != nil {
			t.Fatal(err)
		}
		if _, err := got[1].ReadAt(z, at); err != nil || !bytes.Equal(a, z) {
			t.Errorf("contents at %d differ (%v)", at, err)
		}
	}
	put(t, got[0], 5, "shared")
	if _, err := got[1].ReadAt(a[:11], 0); err != nil || string(a[:11]) != "startshared" {
		t.Errorf("the descriptions are of two files: %q, %v", a[:11], err)
	}
	if at, err := got[1].Seek(0, 1); err != nil || at != 7 {
		t.Errorf("position %d (%v), want 7", at, err)
	}
}

func TestSeals(t *testing.T) {
	type test struct {
		name         string
		create, seal int
	}
	tests := []test{
		{"none possible", 0, 0},
		{"none", unix.MFD_ALLOW_SEALING, 0},
		{"some", unix.MFD_ALLOW_SEALING, unix.F_SEAL_GROW | unix.F_SEAL_SHRINK},
		{"all but future", unix.MFD_ALLOW_SEALING, unix.F_SEAL_GROW | unix.F_SEAL_SHRINK | unix.F_SEAL_WRITE | unix.F_SEAL_SEAL},
		{"write and future", unix.MFD_ALLOW_SEALING, unix.F_SEAL_WRITE | unix.F_SEAL_FUTURE_WRITE},
	}
	if kindtest.Since(t, "6.3") {
		tests = append(tests, test{"no execution", unix.MFD_NOEXEC_SEAL, unix.F_SEAL_GROW})
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := create(t, "sealed", tt.create)
			put(t, in, 0, "contents")
			if tt.seal != 0 {
				if _, err := unix.FcntlInt(in.Fd(), unix.F_ADD_SEALS, tt.seal); err != nil {
					t.Fatal(err)
				}
			}
			got := kindtest.File(t, memfd.Kind, in)[0]
			if g, w := get(t, got, unix.F_GET_SEALS), get(t, in, unix.F_GET_SEALS); g != w {
				t.Errorf("seals %#x, want %#x", g, w)
			}
			if stat(t, got).Mode != stat(t, in).Mode {
				t.Errorf("mode %#o, want %#o", stat(t, got).Mode, stat(t, in).Mode)
			}
			b := make([]byte, 8)
			if _, err := got.ReadAt(b, 0); err != nil || string(b) != "contents" {
				t.Errorf("holds %q, %v", b, err)
			}
		})
	}
}

// F_SEAL_FUTURE_WRITE must not come before the mappings that it spares.
func TestLateSeals(t *testing.T) {
	const seals = unix.F_SEAL_FUTURE_WRITE | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
	in := create(t, "ring", unix.MFD_ALLOW_SEALING)
	put(t, in, 0, "x")
	if _, err := unix.FcntlInt(in.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		t.Fatal(err)
	}
	b := kindtest.New(t, memfd.Kind)
	saved := b.Dump(reopen(t, in, os.O_RDONLY), in)
	c := b.Child(saved, kindtest.VPID)
	f, err := c.R.File(saved.Entries[1].GetId())
	if err != nil {
		t.Fatal(err)
	}
	if g := get(t, f, unix.F_GET_SEALS); g != unix.F_SEAL_GROW {
		t.Errorf("seals %#x before the mappings, want %#x", g, unix.F_SEAL_GROW)
	}
	m, err := unix.Mmap(int(f.Fd()), 0, 1, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(m)
	if err := memfd.Seals().Restore(c.R, c.Target); err != nil {
		t.Fatal(err)
	}
	if err := c.Run(); err != nil {
		t.Fatal(err)
	}
	if g := get(t, f, unix.F_GET_SEALS); g != seals {
		t.Errorf("seals %#x, want %#x", g, seals)
	}
	m[0] = 'y' // the old mapping may
	if _, err := f.WriteAt([]byte("z"), 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("write(2): %v, want EPERM", err)
	}
}
