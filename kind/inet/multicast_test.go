package inet

import (
	"net/netip"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/testing/protocmp"

	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/kind/kindtest"
)

func TestParseGroups(t *testing.T) {
	v4 := parseIGMP("Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n" +
		"1\tlo        :     2      V3\n\t\t\t\tFB0000E0     1 0:00000000\t\t0\n\t\t\t\t010000E0     1 0:00000000\t\t0\n" +
		"4\teth0      :     1      V3\n\t\t\t\t010000E0     1 0:00000000\t\t0\n")
	want := []group{{1, "lo", netip.MustParseAddr("224.0.0.251")}, {1, "lo", netip.MustParseAddr("224.0.0.1")}, {4, "eth0", netip.MustParseAddr("224.0.0.1")}}
	opt := cmp.Options{cmp.AllowUnexported(group{}), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })}
	if d := cmp.Diff(want, v4, opt); d != "" {
		t.Error(d)
	}
	v6 := parseIGMP6("1    lo              ff0200000000000000000000000000fb     1 00000004 0\n\n")
	if d := cmp.Diff([]group{{1, "lo", netip.MustParseAddr("ff02::fb")}}, v6, opt); d != "" {
		t.Error(d)
	}
}

func TestMulticast(t *testing.T) {
	addr := func(s string) []byte { return netip.MustParseAddr(s).AsSlice() }
	tests := map[string]struct {
		family int
		join   []*image.Multicast
	}{
		"IPv4": {in4, []*image.Multicast{{Interface: "lo", Group: addr("224.0.0.251")}, {Interface: "lo", Group: addr("239.1.2.3")}}},
		"IPv6": {in6, []*image.Multicast{{Interface: "lo", Group: addr("ff02::fb")}, {Interface: "lo", Group: addr("224.0.0.251")}}},
		"from some": {in4, []*image.Multicast{{Interface: "lo", Group: addr("232.1.1.1"), Include: true, Sources: [][]byte{addr("192.0.2.1"), addr("192.0.2.2")}},
			{Interface: "lo", Group: addr("239.1.1.1"), Sources: [][]byte{addr("192.0.2.9")}}}},
		"from some, IPv6": {in6, []*image.Multicast{{Interface: "lo", Group: addr("ff3e::1"), Include: true, Sources: [][]byte{addr("2001:db8::1")}}}},
		"none":            {in4, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ownNet(t)
			f := socket(t, tt.family, sockDgram, 0)
			other := socket(t, tt.family, sockDgram, 0) // has joined nothing
			for _, m := range tt.join {
				must(t, join(int(f.Fd()), m))
			}
			got := kindtest.File(t, Kind, f, other)
			must(t, f.Close())
			for i, want := range [][]*image.Multicast{tt.join, nil} {
				have, err := (&saver{}).joined(&kind.Dump{}, int(got[i].Fd()), sort{family: tt.family, typ: unix.SOCK_DGRAM})
				must(t, err)
				if d := cmp.Diff(want, have, protocmp.Transform(), sortGroups,
					protocmp.SortRepeated(func(a, b []byte) bool { return string(a) < string(b) })); d != "" {
					t.Errorf("socket %d (-want +got):\n%s", i, d)
				}
			}
		})
	}
}

var sortGroups = cmp.Transformer("byGroup", func(in []*image.Multicast) map[string]*image.Multicast {
	out := map[string]*image.Multicast{}
	for _, m := range in {
		out[string(m.Group)] = m
	}
	return out
})

func TestRawOptions(t *testing.T) {
	read := func(f *os.File, level, name int) string {
		b, err := kernel.SocketOption(f.Fd(), level, name, make([]byte, 64))
		must(t, err)
		return string(b)
	}
	for _, tt := range []struct {
		name        string
		family, typ int
		level, opt  int
		value       []byte
	}{
		{"congestion control", in4, sockStream, tcp, unix.TCP_CONGESTION, []byte("reno")},
		{"record route", in4, sockDgram, ip, unix.IP_OPTIONS, []byte{7, 7, 4, 0, 0, 0, 0, 0}},
		{"destination options", in6, sockDgram, ipv6, ipv6DstOpts, []byte{0, 0, 1, 4, 0, 0, 0, 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := socket(t, tt.family, tt.typ, 0)
			must(t, kernel.SetSocketOption(f.Fd(), tt.level, tt.opt, tt.value))
			want := read(f, tt.level, tt.opt)
			got := kindtest.File(t, Kind, f)[0]
			if is := read(got, tt.level, tt.opt); is != want {
				t.Errorf("%q, want %q", is, want)
			}
		})
	}
}
