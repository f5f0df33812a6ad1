package mounts

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/procfs"
)

func TestExtra(t *testing.T) {
	root := procfs.Mount{Dev: 1, Root: "/", Point: "/", Options: "rw", Type: "ext4"}
	proc := procfs.Mount{Dev: 2, Root: "/", Point: "/proc", Options: "rw,nosuid,nodev,noexec,relatime", Type: "proc"}
	pts := procfs.Mount{Dev: 3, Root: "/", Point: "/dev/pts", Options: "rw,nosuid,noexec,relatime", Type: "devpts"}
	queues := procfs.Mount{Dev: 4, Root: "/", Point: "/dev/mqueue", Options: "rw,nosuid,nodev,noexec,relatime", Type: "mqueue"}
	own := []procfs.Mount{root, proc, pts}
	with := func(m procfs.Mount, change func(*procfs.Mount)) procfs.Mount { change(&m); return m }
	newProc := with(proc, func(m *procfs.Mount) { m.Dev = 9 })
	newPts := with(pts, func(m *procfs.Mount) { m.Dev = 8 })
	for _, c := range []struct {
		name string
		more []procfs.Mount // beyond the container's
		want []procfs.Mount
		said string
	}{
		{"a copy", nil, nil, ""},
		{"a container's", []procfs.Mount{newProc, newPts, queues}, []procfs.Mount{newProc, newPts, queues}, ""},
		{"the same /proc once more", []procfs.Mount{proc}, []procfs.Mount{proc}, ""},
		{"another file system", []procfs.Mount{with(root, func(m *procfs.Mount) { m.Dev, m.Point, m.Type = 5, "/mnt", "tmpfs" })}, nil,
			"tmpfs was mounted on /mnt in a mount namespace made inside the container; that is not carried yet"},
		{"/proc elsewhere", []procfs.Mount{with(newProc, func(m *procfs.Mount) { m.Point = "/mnt" })}, nil,
			"proc was mounted on /mnt in a mount namespace made inside the container; that is not carried yet"},
		{"part of /proc", []procfs.Mount{with(newProc, func(m *procfs.Mount) { m.Root = "/sys" })}, nil,
			"/sys (proc) was mounted on /proc in a mount namespace made inside the container; that is not carried yet"},
		{"shared", []procfs.Mount{with(newProc, func(m *procfs.Mount) { m.Shared = 7 })}, nil,
			"proc was mounted on /proc in a mount namespace made inside the container; that is not carried yet"},
		{"an option unheard of", []procfs.Mount{with(newPts, func(m *procfs.Mount) { m.Options = "rw,new" })}, nil,
			"devpts was mounted on /dev/pts in a mount namespace made inside the container; that is not carried yet"},
	} {
		got, refused := extra(append(append([]procfs.Mount(nil), own...), c.more...), own)
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
		err := errors.Join(refused...)
		if said := failure.All(err); c.said == "" && err != nil || c.said != "" && (len(said) != 1 || said[0].Error() != c.said || !errors.Is(err, failure.ErrUnsupported)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.said)
		}
	}
}

func TestFlags(t *testing.T) {
	got, err := flags("rw,nosuid,nodev,noexec,relatime")
	if want := uint64(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_RELATIME); got != want || err != nil {
		t.Errorf("got %#x, %v", got, err)
	}
	if _, err := flags("rw,new"); !errors.Is(err, failure.ErrDamaged) {
		t.Errorf("got %v", err)
	}
	if got := instanceOptions("rw,gid=5,mode=620,ptmxmode=666"); got != "gid=5,mode=620,ptmxmode=666" {
		t.Errorf("got %q", got)
	}
}
