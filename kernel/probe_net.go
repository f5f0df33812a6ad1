package kernel

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"ckpt/failure"
)

// tryUnixDiag: commit 22931d3b906c (CONFIG_UNIX_DIAG), unix_diag_req of sock_diag(7).
func tryUnixDiag() error {
	req := make([]byte, 24)
	req[0] = unix.AF_UNIX
	return tryDiag("unix_diag", req)
}

// tryInetDiag: inet_diag_req_v2 of sock_diag(7); the states asked for are
// those no socket is in, so that the answer is short.
func tryInetDiag() error {
	req := make([]byte, 56)
	req[0], req[1] = unix.AF_INET, unix.IPPROTO_TCP
	return tryDiag("inet_diag", req)
}

// tryDiag asks for a listing. The kernel answers ENOENT when nobody serves
// the family (the module is not there).
func tryDiag(what string, req []byte) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return absent("socket for "+what, err, unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT)
	}
	defer unix.Close(fd)
	const sockDiagByFamily = 20
	msg := make([]byte, unix.SizeofNlMsghdr, unix.SizeofNlMsghdr+len(req))
	binary.NativeEndian.PutUint32(msg, uint32(cap(msg)))
	binary.NativeEndian.PutUint16(msg[4:], sockDiagByFamily)
	binary.NativeEndian.PutUint16(msg[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	if err := unix.Sendto(fd, append(msg, req...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("ask %s: %w", what, err)
	}
	buf := make([]byte, 32<<10)
	n, _, err := unix.Recvfrom(fd, buf, 0)
	if err != nil {
		return fmt.Errorf("hear from %s: %w", what, err)
	}
	if n < unix.SizeofNlMsghdr+4 {
		return fmt.Errorf("%s: answer of %d bytes", what, n)
	}
	if binary.NativeEndian.Uint16(buf[4:]) != unix.NLMSG_ERROR {
		return nil
	}
	code := unix.Errno(-int32(binary.NativeEndian.Uint32(buf[unix.SizeofNlMsghdr:])))
	return absent(what, code, unix.ENOENT, unix.EINVAL)
}

// tryTCPRepair: commit ee9952831cfd. It wants CAP_NET_ADMIN over the network
// namespace.
func tryTCPRepair() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return absent("socket", err, unix.EAFNOSUPPORT)
	}
	defer unix.Close(fd)
	err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, 1)
	if err == unix.EPERM {
		return failure.Unsupportedf("TCP_REPAIR takes CAP_NET_ADMIN: as an ordinary user only in a container with a network of its own")
	}
	return absent("TCP_REPAIR", err, unix.ENOPROTOOPT)
}
