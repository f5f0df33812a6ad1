package inet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	sk_opts "github.com/checkpoint-restore/go-criu/v7/crit/images/sk-opts"

	"ckpt/failure"
	"ckpt/kind"
	"ckpt/kind/sockdiag"
)

// What sock_diag(7) tells of internet sockets (linux/inet_diag.h).
const (
	diagSize     = 72 // struct inet_diag_msg
	diagInode    = 68 // its idiag_inode
	attrShutdown = 8  // INET_DIAG_SHUTDOWN: 1: reads, 2: writes
)

// half is a protocol of a family.
type half struct{ family, proto int }

// shutdownOf is which halves of a datagram socket were shut down. poll(2)
// tells nothing of one that was for writing only. None where the kernel cannot
// be asked: a socket that is bound to no port is not listed either.
func (s *saver) shutdownOf(d *kind.Dump, desc *kind.Desc, i *seen) (sk_opts.SkShutdown, error) {
	h := half{i.family, i.proto}
	if s.halves == nil {
		s.halves = map[half]map[uint32]sk_opts.SkShutdown{}
	}
	if s.halves[h] == nil {
		nl, err := sockdiag.Open(d)
		if err != nil {
			return sk_opts.SkShutdown_NONE, err
		}
		defer nl.Close()
		if s.halves[h], err = listShutdown(nl, h); err != nil {
			return sk_opts.SkShutdown_NONE, err
		}
	}
	return s.halves[h][uint32(desc.Stat.Ino)], nil
}

// listShutdown gives what was shut down of the sockets of the network namespace
// that nl was made in, by inode number.
func listShutdown(nl *os.File, h half) (map[uint32]sk_opts.SkShutdown, error) {
	out := map[uint32]sk_opts.SkShutdown{}
	all, err := sockdiag.List(nl, listRequest(h), "udp_diag (CONFIG_INET_UDP_DIAG)")
	if errors.Is(err, failure.ErrUnsupported) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	for _, m := range all {
		if err := sockdiag.Attributes(m, diagSize, func(typ uint16, v []byte) error {
			if typ == attrShutdown && len(v) == 1 {
				out[binary.NativeEndian.Uint32(m[diagInode:])] = sk_opts.SkShutdown(v[0] & 3)
			}
			return nil
		}); err != nil {
			return nil, fmt.Errorf("list sockets (sock_diag): %w", err)
		}
	}
	return out, nil
}

// listRequest is struct inet_diag_req_v2 for all sockets in any state.
func listRequest(h half) []byte {
	b := []byte{byte(h.family), byte(h.proto), 0, 0}
	b = binary.NativeEndian.AppendUint32(b, ^uint32(0))
	return append(b, make([]byte, 48)...) // struct inet_diag_sockid
}
