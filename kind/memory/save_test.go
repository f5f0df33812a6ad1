package memory

import (
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/kind"
	"ckpt/procfs"
)

// Inode numbers are small on every tmpfs: two files with the same one are
// not the same.
func TestIsOf(t *testing.T) {
	disk, other, shm, tmp := unix.Mkdev(8, 1), unix.Mkdev(8, 2), unix.Mkdev(0, 30), unix.Mkdev(0, 40)
	m := &procfs.Map{Dev: shm, Ino: 7, Path: "/dev/shm/a", Deleted: true}
	onDisk := &procfs.Map{Dev: disk, Ino: 7, Path: "/a"}
	for _, c := range []struct {
		m    *procfs.Map
		link string
		dev  uint64
		ino  uint64
		want bool
	}{
		{m, "/dev/shm/a (deleted)", shm, 7, true},
		{m, "/dev/shm/b", shm, 7, true}, // by another name
		{m, "/dev/shm/a (deleted)", shm, 8, false},
		{m, "/tmp/log", tmp, 7, false},
		{m, "/dev/shm/a (deleted)", tmp, 7, true}, // as btrfs shows it
		{onDisk, "/b", disk, 7, true},
		{onDisk, "/a", other, 7, false},
		{onDisk, "/tmp/a", tmp, 7, false},
	} {
		d := &kind.Desc{Link: c.link, Stat: unix.Stat_t{Dev: c.dev, Ino: c.ino}, Info: &procfs.FDInfo{Ino: c.ino}}
		if got := isOf(c.m, d); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
