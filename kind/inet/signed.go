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

// unsigned refuses a connection whose segments are signed (TCP_MD5SIG,
// TCP_AO_ADD_KEY): the keys are not carried, and the other end takes nothing
// unsigned.
func (o *outgoing) unsigned(d *kind.Dump, desc *kind.Desc) error {
	hint := "close it before the dump, or save it as closed: --tcp close"
	if _, err := kernel.SocketOption(desc.File.Fd(), unix.IPPROTO_TCP, tcpAOInfo, make([]byte, aoInfoSize)); err == nil {
		return failure.WithHint(failure.Unsupportedf("its segments are signed (TCP-AO)"), hint)
	}
	if o.signed == nil {
		nl, err := sockdiag.Open(d)
		if err != nil {
			return err
		}
		defer nl.Close()
		if o.signed, err = listSigned(nl); err != nil {
			return err
		}
	}
	if o.signed[uint32(desc.Stat.Ino)] {
		return failure.WithHint(failure.Unsupportedf("its segments are signed (TCP_MD5SIG)"), hint)
	}
	return nil
}

// listSigned gives the inodes of connections with MD5 keys; none where the
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
