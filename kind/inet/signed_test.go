package inet

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/kernel"
	"ckpt/kind/kindtest"
)

func TestSignedListener(t *testing.T) {
	for _, at := range []string{"127.0.0.1:179", "[::1]:179"} {
		t.Run(at, func(t *testing.T) {
			ownNet(t)
			peer := netip.MustParseAddrPort(at).Addr()
			family := in4
			if peer.Is6() {
				family = in6
			}
			f := socket(t, family, sockStream, 0)
			key := append(rawAddr(peer), make([]byte, 88)...) // struct tcp_md5sig
			binary.NativeEndian.PutUint16(key[storage+2:], 6)
			copy(key[storage+8:], "secret")
			must(t, kernel.SetSocketOption(f.Fd(), tcp, unix.TCP_MD5SIG, key))
			bind(t, f, at)
			listen(t, f, 1)
			refused(t, kindtest.Refused(t, Kind, f), "its segments are signed (TCP_MD5SIG)")
		})
	}
}
