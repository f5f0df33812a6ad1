package inet

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"ckpt/kind"
	"ckpt/tracee"
)

// net.ipv4.ping_group_range (icmp(7)) says whose groups may make ping sockets.
// In a new network these are none, root included. A container with a network
// of its own that has a ping socket has changed it, and gets it back with the
// socket.

const pingGroups = "net/ipv4/ping_group_range"

// pingRange reads it where it is the container's own; "": it is not.
func pingRange(d *kind.Dump) (string, error) {
	if !d.OwnNet || d.Inside == nil {
		return "", nil
	}
	text, err := tracee.SysctlText(d.Inside, pingGroups)
	return strings.TrimSpace(text), err
}

// newPing makes a ping socket in a network of the container's own, whatever
// groups ckpt is in.
func (w *world) newPing(s *sock) (fd int, err error) {
	old := s.x.GetPingGroups()
	if old == "" {
		return unix.Socket(s.family, s.typ|unix.SOCK_CLOEXEC, s.proto)
	}
	gid := os.Getgid()
	if err := w.writeSysctl(pingGroups, fmt.Sprintf("%d %d", gid, gid)); err != nil {
		return -1, err
	}
	fd, err = unix.Socket(s.family, s.typ|unix.SOCK_CLOEXEC, s.proto)
	return fd, errors.Join(err, w.writeSysctl(pingGroups, old))
}

// writeSysctl sets a value of /proc/sys as this thread sees it.
func (w *world) writeSysctl(name, value string) error {
	fd, err := unix.Openat(int(w.r.HostProc.Fd()), "sys/"+name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /proc/sys/%s: %w", name, err)
	}
	_, err = unix.Write(fd, []byte(value))
	if err := errors.Join(err, unix.Close(fd)); err != nil {
		return fmt.Errorf("set /proc/sys/%s to %q: %w", name, value, err)
	}
	return nil
}
