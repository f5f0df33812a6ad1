package inet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/kind/sockdiag"
)

const (
	tcpAOInfo  = 40 // TCP_AO_INFO (linux/tcp.h), Linux 6.7
	aoInfoSize = 64
	attrMD5    = 18 // INET_DIAG_MD5SIG (linux/inet_diag.h), Linux 4.14, shown to CAP_NET_ADMIN
)

// unsigned refuses a socket whose segments are signed (TCP_MD5SIG,
// TCP_AO_ADD_KEY): the keys are secrets, which an image is no place for, and the
// other end takes nothing unsigned. Of TCP_MD5SIG, sock_diag(7) tells of sockets
// that have a port.
func (s *saver) unsigned(d *kind.Dump, desc *kind.Desc, i *seen, hint string) error {
	if _, err := kernel.SocketOption(desc.File.Fd(), unix.IPPROTO_TCP, tcpAOInfo, make([]byte, aoInfoSize)); err == nil {
		return failure.WithHint(failure.Unsupportedf("its segments are signed (TCP-AO)"), hint)
	}
	if i.local.Port() == 0 {
		return nil
	}
	if s.signed == nil {
		nl, err := sockdiag.Open(d)
		if err != nil {
			return err
		}
		defer nl.Close()
		if s.signed, err = listSigned(nl); err != nil {
			return err
		}
	}
	if s.signed[uint32(desc.Stat.Ino)] {
		return failure.WithHint(failure.Unsupportedf("its segments are signed (TCP_MD5SIG)"), hint)
	}
	return nil
}

// listSigned gives the inodes of sockets with MD5 keys; none where the
// kernel cannot be asked.
func listSigned(nl *os.File) (map[uint32]bool, error) {
	signed := map[uint32]bool{}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		request := listRequest(half{family, unix.IPPROTO_TCP})
		request[2] = 1 << 1 // INET_DIAG_INFO: without it nothing is told of keys
		all, err := sockdiag.List(nl, request, "tcp_diag (CONFIG_INET_TCP_DIAG)")
		if errors.Is(err, failure.ErrUnsupported) {
			return signed, nil
		}
		if err != nil {
			return nil, err
		}
		for _, m := range all {
			if err := sockdiag.Attributes(m, diagSize, func(typ uint16, _ []byte) error {
				if typ == attrMD5 {
					signed[binary.NativeEndian.Uint32(m[diagInode:])] = true
				}
				return nil
			}); err != nil {
				return nil, fmt.Errorf("list sockets (sock_diag): %w", err)
			}
		}
	}
	return signed, nil
}
