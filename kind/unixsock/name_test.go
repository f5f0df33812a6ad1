package unixsock

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/kind/kindtest"
)

func stat(t *testing.T, path string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Lstat(path, &st))
	return st
}

func TestPermissions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	l := listening(t, unix.SOCK_STREAM, path, 1)
	must(t, unix.Chmod(path, 0o620))
	must(t, unix.Chown(path, 1234, 4321))
	must(t, unix.SetsockoptInt(int(l.Fd()), unix.SOL_SOCKET, unix.SO_PASSCRED, 1))
	before := stat(t, path)
	cycle(t, l)
	after := stat(t, path)
	if before.Mode != after.Mode || before.Uid != after.Uid || before.Gid != after.Gid {
		t.Errorf("before %o %d:%d, after %o %d:%d", before.Mode, before.Uid, before.Gid, after.Mode, after.Uid, after.Gid)
	}
	accept2 := connected(t, unix.SOCK_STREAM, path)
	accept2.Close()
}

func TestRelativeNames(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "run"), 0o700))
	for _, tt := range []struct{ cwd, name string }{{"", "sock"}, {"run", "../sock2"}, {"", "run/sock3"}} {
		var l *os.File
		bind := func() error {
			l = socket(t, unix.SOCK_STREAM)
			return kernel.BindUnix(int(l.Fd()), sun(tt.name))
		}
		root, err := os.Open("/")
		must(t, err)
		defer root.Close()
		must(t, place{root: root, cwd: filepath.Join(dir, tt.cwd)}.run(nil, bind))
		must(t, unix.Listen(int(l.Fd()), 1))
		if tt.cwd != "" {
			t.Chdir(filepath.Join(dir, tt.cwd)) // where the process still is
		}
		got := cycle(t, l)
		if own, _ := names(t, got[0]); own != tt.name {
			t.Errorf("name %q, want %q", own, tt.name)
		}
		connected(t, unix.SOCK_STREAM, filepath.Join(dir, tt.cwd, tt.name))
	}
}

// Bound by a process with another root.
func TestOtherRoot(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "run"), 0o700))
	root, err := os.Open("/")
	must(t, err)
	defer root.Close()
	l := socket(t, unix.SOCK_STREAM)
	must(t, place{root: root, chroot: dir}.run(nil, func() error { return kernel.BindUnix(int(l.Fd()), sun("/run/sock")) }))
	must(t, unix.Listen(int(l.Fd()), 1))
	got := cycle(t, l)
	if own, _ := names(t, got[0]); own != "/run/sock" {
		t.Errorf("name %q", own)
	}
	connected(t, unix.SOCK_STREAM, filepath.Join(dir, "run/sock"))
}

func TestDeletedFile(t *testing.T) {
	for _, typ := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM} {
		path := filepath.Join(t.TempDir(), "gone", "sock")
		must(t, os.Mkdir(filepath.Dir(path), 0o700))
		s := bound(t, typ, path)
		must(t, os.Remove(path))
		other := bound(t, typ, path) // the name is another's now
		var f []*os.File
		if typ == unix.SOCK_DGRAM {
			// Alive, and so not to be touched.
			f = cycle(t, s)
			st := stat(t, path)
			if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
				t.Error("the other's file is gone")
			}
		} else {
			must(t, os.RemoveAll(filepath.Dir(path)))
			f = cycle(t, s)
			if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the name is back: %v", err)
			}
		}
		if own, _ := names(t, f[0]); own != path {
			t.Errorf("name %q, want %q", own, path)
		}
		other.Close()
	}
}

// What stands at the name of a socket when it comes back.
func TestNameTaken(t *testing.T) {
	tests := []struct {
		name  string
		make  func(t *testing.T, path string)
		wants string // in the error; "": it is replaced
	}{
		{"nothing", func(*testing.T, string) {}, ""},
		{"what the container left", func(t *testing.T, path string) { bound(t, unix.SOCK_STREAM, path).Close() }, ""},
		{"a living server", func(t *testing.T, path string) { listening(t, unix.SOCK_STREAM, path, 1) }, "another process listens there"},
		{"a server of another type", func(t *testing.T, path string) { bound(t, unix.SOCK_DGRAM, path) }, "another process listens there"},
		{"a file", func(t *testing.T, path string) { must(t, os.WriteFile(path, nil, 0o600)) }, "there is another file of that name"},
		{"no directory", func(t *testing.T, path string) { must(t, os.Remove(filepath.Dir(path))) }, "its directory is missing"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "run", "sock")
			must(t, os.Mkdir(filepath.Dir(path), 0o700))
			l := listening(t, unix.SOCK_STREAM, path, 1)
			b := kindtest.New(t, Kind)
			saved := b.Dump(l)
			l.Close()
			must(t, os.Remove(path))
			tt.make(t, path)
			var before unix.Stat_t
			there := unix.Lstat(path, &before) == nil
			files, _, err := b.TryRestore(saved)
			if tt.wants == "" {
				must(t, err)
				connected(t, unix.SOCK_STREAM, path)
				accept(t, files[0])
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.wants) || len(failure.Hints(err)) == 0 {
				t.Errorf("got %v, hints %q, want %q", err, failure.Hints(err), tt.wants)
			}
			var after unix.Stat_t
			if unix.Lstat(path, &after) == nil != there || before.Ino != after.Ino {
				t.Error("what stood there is not as before")
			}
		})
	}
}

// A restore that fails later takes its names back.
func TestUndo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	l := listening(t, unix.SOCK_STREAM, path, 1)
	must(t, unix.Chmod(path, 0o700))
	b := kindtest.New(t, Kind)
	saved := b.Dump(l)
	l.Close() // its file stays, as after a dump
	var undo []func() error
	b.OnRestore = func(r *kind.Restore) {
		r.Undo = func(_ string, fn func() error) { undo = append(undo, fn) }
	}
	b.Restore(saved)
	for _, fn := range undo {
		must(t, fn())
	}
	st := stat(t, path)
	if len(undo) != 1 || st.Mode != unix.S_IFSOCK|0o700 {
		t.Errorf("%d steps, mode %o", len(undo), st.Mode)
	}
	probe := socket(t, unix.SOCK_STREAM)
	if err := kernel.ConnectUnix(int(probe.Fd()), sun(path)); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("connect: %v, want ECONNREFUSED", err)
	}
}
