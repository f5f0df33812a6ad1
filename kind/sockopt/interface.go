package sockopt

import (
	"fmt"

	"golang.org/x/sys/unix"

	"ckpt/failure"
)

// InterfaceName is the name of a network interface in the socket's own
// network namespace.
func InterfaceName(fd int, index uint32) (string, error) {
	ifr, err := unix.NewIfreq("")
	if err != nil {
		return "", err
	}
	ifr.SetUint32(index)
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFNAME, ifr); err != nil {
		return "", fmt.Errorf("find network interface %d: %w", index, err)
	}
	return ifr.Name(), nil
}

// InterfaceIndex is the reverse. The error says what to do where there is none
// of that name.
func InterfaceIndex(fd int, name string) (uint32, error) {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return 0, failure.Damagedf("a network interface %q", name)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr); err != nil {
		return 0, failure.WithHint(fmt.Errorf("find network interface %s: %w", name, err), fmt.Sprintf("make it first (ip link add %s ...)", name))
	}
	return ifr.Uint32(), nil
}
