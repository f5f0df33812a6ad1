package sockopt

import (
	"fmt"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kind"
)

// checkNamespace refuses a socket that was made in another network namespace
// than the container's: it would be made again in the wrong one.
func checkNamespace(d *kind.Dump, desc *kind.Desc) error {
	same := true
	if d.OwnNet {
		const siocGSKNS = 0x894c // the socket's namespace as a descriptor (Linux 4.9)
		ns, err := unix.IoctlRetInt(int(desc.File.Fd()), siocGSKNS)
		if err != nil {
			return fmt.Errorf("find its network namespace (SIOCGSKNS): %w", err)
		}
		defer unix.Close(ns)
		var its, want unix.Stat_t
		if err := unix.Fstat(ns, &its); err != nil {
			return fmt.Errorf("stat its network namespace: %w", err)
		}
		if err := unix.Stat(fmt.Sprintf("/proc/%d/ns/net", d.Home), &want); err != nil {
			return fmt.Errorf("stat the container's network namespace: %w", err)
		}
		same = its.Ino == want.Ino && its.Dev == want.Dev
	} else if its, err := unix.GetsockoptUint64(int(desc.File.Fd()), unix.SOL_SOCKET, unix.SO_NETNS_COOKIE); err == nil { // Linux 5.14
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("make a socket to compare with: %w", err)
		}
		defer unix.Close(fd)
		want, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
		if err != nil {
			return fmt.Errorf("read SO_NETNS_COOKIE: %w", err)
		}
		same = its == want
	}
	if !same {
		return failure.WithHint(failure.Unsupportedf("a socket of another network namespace than the container's"), "close it before the dump")
	}
	return nil
}
