package inet

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"ckpt/image"
	"ckpt/kind"
)

// boundFreely is the option that bind(2) takes to give a socket its address
// again, if that is not one of its machine: the program has switched
// IP_FREEBIND off again (nil: it has not, or needs none).
func boundFreely(d *kind.Dump, i *seen) (*image.SockOption, error) {
	a := i.local.Addr().Unmap()
	if i.local.Port() == 0 || a.IsUnspecified() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) || i.connected() && i.tcp() {
		return nil, nil
	}
	is, err := local(d, a)
	if is || err != nil {
		return nil, err
	}
	return &image.SockOption{Level: unix.IPPROTO_IP, Name: unix.IP_FREEBIND, Value: 1}, nil
}

// local tells whether the container's network has the address.
func local(d *kind.Dump, a netip.Addr) (bool, error) {
	switch {
	case a.IsLoopback(), a.IsLinkLocalUnicast():
		return true, nil
	case !d.OwnNet:
		return here(a), nil
	}
	name, parse := "net/fib_trie", parseFIB
	if a.Is6() {
		name, parse = "net/if_inet6", parseIfInet6
	}
	at, err := whoseNet(d)
	if err != nil {
		return false, err
	}
	defer at.Close()
	b, err := at.Read(name)
	if errors.Is(err, unix.ENOENT) { // a kernel without it
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("list the network's addresses: %w", err)
	}
	for _, p := range parse(string(b)) {
		if p.Contains(a) {
			return true, nil
		}
	}
	return false, nil
}

// parseFIB reads the addresses of /proc/net/fib_trie that bind(2) takes: a line
// with the prefix, then one with its length, scope and type.
func parseFIB(text string) (out []netip.Prefix) {
	var a netip.Addr
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		switch {
		case len(f) == 2 && f[0] == "|--":
			a, _ = netip.ParseAddr(f[1])
		case len(f) == 3 && (f[2] == "LOCAL" || f[2] == "BROADCAST") && a.IsValid():
			if p, err := netip.ParsePrefix(a.String() + f[0]); err == nil {
				out = append(out, p)
			}
		}
	}
	return out
}

// parseIfInet6 reads /proc/net/if_inet6: an address without colons leads each line.
func parseIfInet6(text string) (out []netip.Prefix) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if b, err := hex.DecodeString(f[0]); err == nil && len(b) == 16 {
			out = append(out, netip.PrefixFrom(netip.AddrFrom16([16]byte(b)), 128))
		}
	}
	return out
}
