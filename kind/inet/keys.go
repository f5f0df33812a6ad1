package inet

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/kind/sockdiag"
)

const (
	tcpAOInfo  = 40 // TCP_AO_INFO (linux/tcp.h), Linux 6.7
	aoInfoSize = 48 // struct tcp_ao_info_opt
	attrInfo   = 2  // INET_DIAG_INFO (linux/inet_diag.h)
	attrMD5    = 18 // INET_DIAG_MD5SIG, Linux 4.14, shown to CAP_NET_ADMIN, beside attrInfo
)

// checkKeys refuses a socket whose segments are signed: the keys of TCP-MD5
// (RFC 2385) and TCP-AO (RFC 5925) are secrets, which an image is no place for.
// Of TCP-MD5, sock_diag(7) tells of sockets that have a port, and to who may
// administer the network.
func (s *saver) checkKeys(d *kind.Dump, desc *kind.Desc, i *seen) error {
	_, err := kernel.SocketOption(desc.File.Fd(), unix.IPPROTO_TCP, tcpAOInfo, make([]byte, aoInfoSize))
	if err == nil {
		return signed("TCP-AO (TCP_AO_ADD_KEY)")
	}
	if i.local.Port() == 0 {
		return nil
	}
	h := half{i.family, unix.IPPROTO_TCP}
	if s.signed == nil {
		s.signed = map[half]map[uint32]bool{}
	}
	if s.signed[h] == nil {
		all, err := listSigned(d, h)
		if errors.Is(err, sockdiag.ErrNoView) { // ckpt check
			return nil
		}
		if err != nil {
			return err
		}
		s.signed[h] = all
	}
	if s.signed[h][uint32(desc.Stat.Ino)] {
		return signed("TCP-MD5 (TCP_MD5SIG)")
	}
	return nil
}

func signed(how string) error {
	return failure.WithHint(failure.Unsupportedf("a TCP socket with keys of %s, which an image does not hold", how), "close it before the dump")
}

// listSigned gives the inode numbers of the sockets with TCP-MD5 keys.
func listSigned(d *kind.Dump, h half) (map[uint32]bool, error) {
	out := map[uint32]bool{}
	nl, err := sockdiag.Open(d)
	if err != nil {
		return nil, err
	}
	defer nl.Close()
	request := listRequest(h)
	request[2] = 1 << (attrInfo - 1) // idiag_ext
	all, err := sockdiag.List(nl, request, "tcp_diag (CONFIG_INET_DIAG)")
	if errors.Is(err, failure.ErrUnsupported) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	for _, m := range all {
		if err := sockdiag.Attributes(m, diagSize, func(typ uint16, _ []byte) error {
			if typ == attrMD5 {
				out[binary.NativeEndian.Uint32(m[diagInode:])] = true
			}
			return nil
		}); err != nil {
			return nil, fmt.Errorf("list sockets (sock_diag): %w", err)
		}
	}
	return out, nil
}
