package kind_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/kind"
	"ckpt/pidns"
)

func TestOpenFlags(t *testing.T) {
	const always = unix.O_NOCTTY | unix.O_CLOEXEC
	tests := []struct {
		name  string
		saved uint32
		want  int
	}{
		{"nothing is made or cut", unix.O_RDWR | unix.O_CREAT | unix.O_EXCL | unix.O_TRUNC, unix.O_RDWR | always},
		{"what open alone can set stays", unix.O_WRONLY | unix.O_APPEND | unix.O_SYNC | unix.O_NOATIME, unix.O_WRONLY | unix.O_APPEND | unix.O_SYNC | unix.O_NOATIME | always},
		{"O_TMPFILE holds the bit of O_DIRECTORY", unix.O_RDWR | unix.O_TMPFILE, unix.O_RDWR | always},
		{"a directory", unix.O_DIRECTORY, unix.O_DIRECTORY | always},
		{"signals only once the owner can be set", unix.O_ASYNC | unix.O_NONBLOCK, unix.O_NONBLOCK | always},
	}
	for _, tt := range tests {
		if got := kind.OpenFlags(tt.saved); got != tt.want {
			t.Errorf("%s: %#o, want %#o", tt.name, got, tt.want)
		}
	}
}

func TestNewFileSetsFlags(t *testing.T) {
	for _, tt := range []struct{ have, want int }{
		{unix.O_NONBLOCK, 0}, {0, unix.O_NONBLOCK | unix.O_APPEND}, {unix.O_NONBLOCK, unix.O_NONBLOCK | unix.O_DIRECT}, {unix.O_APPEND, 0},
	} {
		fd, err := unix.Open(filepath.Join(t.TempDir(), "f"), unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC|tt.have, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		f, err := kind.NewFile(fd, uint32(tt.want), "f")
		if err != nil {
			t.Fatal(err)
		}
		got, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
		const mask = unix.O_NONBLOCK | unix.O_APPEND | unix.O_DIRECT
		if err != nil || got&mask != tt.want {
			t.Errorf("%#o became %#o (%v), want %#o", tt.have, got&mask, err, tt.want)
		}
		f.Close()
	}
}

func sameFile(a, b string) bool {
	x, xerr := os.Lstat(a)
	y, yerr := os.Lstat(b)
	return xerr == nil && yerr == nil && os.SameFile(x, y)
}

func TestPath(t *testing.T) {
	dir := t.TempDir()
	at := func(n string) string { return filepath.Join(dir, n) }
	for _, n := range []string{"here", "replaced", "x (deleted)"} {
		if err := os.WriteFile(at(n), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Link(at("here"), at("linked")), os.Mkdir(at("sub"), 0o700), os.WriteFile(at("sub/far"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod(at("socket"), unix.S_IFSOCK|0o600, 0); err != nil {
		t.Fatal(err)
	}
	d := &kind.Dump{Home: pidns.HostPID(os.Getpid())}
	tests := []struct {
		name, link, file string // file: which one it is; "": one that has no name
		path             string
		gone             bool
	}{
		{"found", "here", "here", "here", false},
		{"deleted", "gone (deleted)", "", "gone", true},
		{"another in its place, it has another name", "replaced", "here", "here", false},
		{"it has another name", "temporary (deleted)", "linked", "here", false},
		{"its other name is far away", "gone (deleted)", "sub/far", "sub/far", false},
		{"another in its place, and so", "replaced", "sub/far", "sub/far", false},
		{"its other name is near its directory", "sub/gone (deleted)", "here", "here", false},
		{"its directory is gone, too", "none/gone (deleted)", "sub/far", "sub/far", false},
		{"its file has another name, which does not lead to the socket", "gone (deleted)", "socket", "gone", true},
		{"its name only looks like that", "x (deleted)", "x (deleted)", "x (deleted)", false},
		{"its directory is a file now", "here/f", "linked", "linked", false},
	}
	for _, tt := range tests {
		desc := &kind.Desc{Link: at(tt.link)}
		if tt.file != "" {
			if err := unix.Stat(at(tt.file), &desc.Stat); err != nil {
				t.Fatal(err)
			}
		}
		path, gone, err := d.Path(desc)
		if err != nil || gone != tt.gone || path != at(tt.path) && !sameFile(path, at(tt.path)) { // any of its names will do
			t.Errorf("%s: %s, gone %v (%v), want %s, %v", tt.name, path, gone, err, at(tt.path), tt.gone)
		}
	}
}
