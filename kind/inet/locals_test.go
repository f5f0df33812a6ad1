package inet

import (
	"net/netip"
	"slices"
	"testing"
)

func TestParseLocals(t *testing.T) {
	const fib = `Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.0
           /8 host LOCAL
     +-- 192.0.2.0/24 2 0 2
        |-- 192.0.2.0
           /24 link UNICAST
        |-- 192.0.2.2
           /32 host LOCAL
        |-- 192.0.2.255
           /32 link BROADCAST
`
	want := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("192.0.2.2/32"), netip.MustParsePrefix("192.0.2.255/32")}
	if got := parseFIB(fib); !slices.Equal(got, want) {
		t.Errorf("fib_trie: %v, want %v", got, want)
	}
	const inet6 = "00000000000000000000000000000001 01 80 10 80       lo\n20010db8000000000000000000000001 02 40 00 80     eth0\n"
	want = []netip.Prefix{netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("2001:db8::1/128")}
	if got := parseIfInet6(inet6); !slices.Equal(got, want) {
		t.Errorf("if_inet6: %v, want %v", got, want)
	}
}
