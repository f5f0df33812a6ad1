package sockopt

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/testing/protocmp"

	"ckpt/image"
	"ckpt/kind/kindtest"
)

func socket(t *testing.T, family, typ int) int {
	t.Helper()
	fd, err := unix.Socket(family, typ|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func TestRoundTrip(t *testing.T) {
	set := func(level, name, v int) func(int) error {
		return func(fd int) error { return unix.SetsockoptInt(fd, level, name, v) }
	}
	sol := func(name, v int) func(int) error { return set(unix.SOL_SOCKET, name, v) }
	filter := []unix.SockFilter{{Code: 0x28, K: 12}, {Code: 0x15, Jt: 0, Jf: 1, K: 0x0800}, {Code: 0x6, K: 0xffffffff}, {Code: 0x6}}
	tests := []struct {
		name        string
		family, typ int
		change      []func(int) error
	}{
		{"unix, unchanged", unix.AF_UNIX, unix.SOCK_STREAM, nil},
		{"unix", unix.AF_UNIX, unix.SOCK_STREAM, []func(int) error{
			sol(unix.SO_PASSCRED, 1), sol(unix.SO_SNDBUF, 50000), sol(unix.SO_RCVLOWAT, 5), sol(unix.SO_PEEK_OFF, 3),
			func(fd int) error {
				return unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 3, Usec: 500000})
			},
		}},
		{"tcp", unix.AF_INET, unix.SOCK_STREAM, []func(int) error{
			sol(unix.SO_REUSEADDR, 1), sol(unix.SO_REUSEPORT, 1), sol(unix.SO_KEEPALIVE, 1), sol(unix.SO_PRIORITY, 4), sol(unix.SO_OOBINLINE, 1),
			set(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 77), set(unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 3), sol(unix.SO_TIMESTAMPNS, 1), sol(unix.SO_RCVBUF, 1<<20),
			func(fd int) error {
				return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 9})
			},
		}},
		{"udp", unix.AF_INET6, unix.SOCK_DGRAM, []func(int) error{
			sol(unix.SO_BROADCAST, 1), sol(unix.SO_NO_CHECK, 1), sol(unix.SO_RXQ_OVFL, 1),
			func(fd int) error {
				return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
			},
			sol(unix.SO_LOCK_FILTER, 1),
			func(fd int) error { return unix.BindToDevice(fd, "lo") },
		}},
	}
	if kindtest.Since(t, "6.5") {
		tests[1].change = append(tests[1].change, sol(unix.SO_PASSPIDFD, 1))
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			old, made := socket(t, tt.family, tt.typ), socket(t, tt.family, tt.typ)
			for i, c := range tt.change {
				if err := c(old); err != nil {
					t.Fatalf("change %d: %v", i, err)
				}
			}
			e, err := Dump(uintptr(old))
			if err != nil {
				t.Fatal(err)
			}
			m, err := More(uintptr(old))
			if err != nil {
				t.Fatal(err)
			}
			// Of no use to a unix socket, it is 0 or 1, as the kernel likes.
			drop := func(m []*image.SockOption) []*image.SockOption {
				return slices.DeleteFunc(m, func(o *image.SockOption) bool {
					return tt.family == unix.AF_UNIX && o.GetName() == unix.SO_TXREHASH
				})
			}
			m = drop(m)
			if tt.change == nil && len(m) != 0 {
				t.Errorf("a new socket has %v", m)
			}
			if err := Restore(uintptr(made), e); err != nil {
				t.Fatal(err)
			}
			if err := RestoreMore(uintptr(made), m); err != nil {
				t.Fatal(err)
			}
			e2, err := Dump(uintptr(made))
			if err != nil {
				t.Fatal(err)
			}
			m2, err := More(uintptr(made))
			if err != nil {
				t.Fatal(err)
			}
			m2 = drop(m2)
			if d := cmp.Diff(e, e2, protocmp.Transform()); d != "" {
				t.Errorf("options (-before +after):\n%s", d)
			}
			if d := cmp.Diff(m, m2, protocmp.Transform()); d != "" {
				t.Errorf("more options (-before +after):\n%s", d)
			}
		})
	}
}
