package inet

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// TestProtocols: what is not carried is refused by its name.
func TestProtocols(t *testing.T) {
	for _, tt := range []struct {
		sort  sort
		words string
	}{
		{sort{in4, unix.SOCK_STREAM, unix.IPPROTO_SCTP}, "a socket of SCTP"},
		{sort{in6, unix.SOCK_SEQPACKET, unix.IPPROTO_SCTP}, "a socket of SCTP"},
		{sort{in4, unix.SOCK_DCCP, unix.IPPROTO_DCCP}, "a socket of DCCP"},
		{sort{in6, unix.SOCK_DGRAM, unix.IPPROTO_L2TP}, "a socket of L2TP"},
		{sort{in4, unix.SOCK_STREAM, unix.IPPROTO_SMC}, "a socket of SMC (shared memory)"},
		{sort{in4, unix.SOCK_DGRAM, 200}, "a socket of internet protocol 200, type 2"},
	} {
		refused(t, tt.sort.check(), tt.words)
	}
	for _, s := range []sort{
		{in4, unix.SOCK_STREAM, unix.IPPROTO_TCP}, {in6, unix.SOCK_STREAM, unix.IPPROTO_MPTCP}, {in4, unix.SOCK_DGRAM, unix.IPPROTO_UDPLITE},
		{in6, unix.SOCK_RAW, unix.IPPROTO_SCTP}, {in4, unix.SOCK_DGRAM, unix.IPPROTO_ICMP},
	} {
		if err := s.check(); err != nil {
			t.Errorf("%v: %v", s, err)
		}
	}
}

// TestLayers: what the kernel does to a stream is refused, by what it is.
func TestLayers(t *testing.T) {
	i := &seen{peer: netip.MustParseAddrPort("192.0.2.1:443")}
	for name, words := range map[string]string{"tls": "a TCP connection to 192.0.2.1:443 with TLS in the kernel", "espintcp": "with espintcp in the kernel"} {
		refused(t, i.checkLayer(name), words)
	}
	if err := i.checkLayer(""); err != nil {
		t.Error(err)
	}
}
