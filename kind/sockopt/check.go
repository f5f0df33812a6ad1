package sockopt

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kernel"
	"ckpt/kind"
)

// Check refuses a socket that was made in another network namespace, or has
// options that cannot be set again. It changes nothing.
func Check(d *kind.Dump, desc *kind.Desc) error {
	if err := checkNamespace(d, desc); err != nil {
		return err
	}
	return CheckOptions(d, desc)
}

// CheckOptions is Check for a socket of which it is known where it was made.
func CheckOptions(d *kind.Dump, desc *kind.Desc) error {
	fd := desc.File.Fd()
	dev, err := device(fd)
	if err != nil {
		return err
	}
	if d.OwnNet && dev != "" && dev != "lo" { // all that a restore makes in it
		return failure.WithHint(failure.Unsupportedf("a socket bound to network interface %s (SO_BINDTODEVICE) of the container's own network, where a restore makes none but lo", dev), "close it before the dump")
	}
	_, err = filter(fd)
	return err
}

// device is the network interface that a socket is bound to; "": to none.
func device(fd uintptr) (string, error) {
	name, err := unix.GetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_BINDTODEVICE)
	if errors.Is(err, unix.ENODEV) {
		return "", failure.WithHint(failure.Unsupportedf("a socket bound to a network interface that is gone (SO_BINDTODEVICE)"), "close it before the dump")
	}
	ok, err := has(err)
	if err != nil {
		return "", fmt.Errorf("read SO_BINDTODEVICE: %w", err)
	}
	if !ok {
		return "", nil
	}
	return name, nil
}

// filter is the classic BPF filter of a socket; nil: it has none.
func filter(fd uintptr) ([]unix.SockFilter, error) {
	prog, err := kernel.SocketFilter(fd)
	if errors.Is(err, unix.EACCES) {
		return nil, failure.WithHint(failure.Unsupportedf("a socket with an eBPF filter (SO_ATTACH_BPF)"), "detach it (SO_DETACH_BPF) before the dump")
	}
	if ok, err := has(err); err != nil || !ok {
		return nil, err
	}
	return prog, nil
}
