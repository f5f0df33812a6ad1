package othersock

import (
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kernel"
	"ckpt/kind/kindtest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ownNet puts the test on a thread in a network namespace of its own, so that
// no port is taken. The thread ends with the test.
func ownNet(t testing.TB) {
	t.Helper()
	runtime.LockOSThread()
	must(t, unix.Unshare(unix.CLONE_NEWNET))
}

func socket(t testing.TB, typ, proto int) *os.File {
	t.Helper()
	fd, err := unix.Socket(unix.AF_NETLINK, typ|unix.SOCK_CLOEXEC, proto)
	must(t, err)
	f := os.NewFile(uintptr(fd), "netlink")
	t.Cleanup(func() { f.Close() })
	return f
}

type facts struct {
	Name    unix.SockaddrNetlink
	Peer    unix.SockaddrNetlink
	Groups  []byte
	Options map[[2]int]int
	Flags   int
}

func factsOf(t testing.TB, f *os.File) facts {
	t.Helper()
	out := facts{Options: map[[2]int]int{}}
	sa, err := unix.Getsockname(int(f.Fd()))
	must(t, err)
	a := sa.(*unix.SockaddrNetlink)
	out.Name = unix.SockaddrNetlink{Family: a.Family, Pid: a.Pid, Groups: a.Groups}
	sa, err = unix.Getpeername(int(f.Fd()))
	must(t, err)
	a = sa.(*unix.SockaddrNetlink)
	out.Peer = unix.SockaddrNetlink{Family: a.Family, Pid: a.Pid, Groups: a.Groups}
	out.Groups, err = kernel.SocketOption(f.Fd(), solNetlink, memberships, make([]byte, 128))
	must(t, err)
	out.Flags, err = unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	must(t, err)
	for _, o := range append([]int{}, options...) {
		if out.Options[[2]int{solNetlink, o}], err = unix.GetsockoptInt(int(f.Fd()), solNetlink, o); err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range []int{unix.SO_TYPE, unix.SO_PROTOCOL, unix.SO_RCVBUF, unix.SO_PASSCRED} {
		if out.Options[[2]int{unix.SOL_SOCKET, o}], err = unix.GetsockoptInt(int(f.Fd()), unix.SOL_SOCKET, o); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// askLinks sends RTM_GETLINK with NLM_F_DUMP.
func askLinks(t testing.TB, f *os.File) {
	t.Helper()
	b := make([]byte, 32)
	b[0], b[4], b[6], b[7] = 32, unix.RTM_GETLINK, unix.NLM_F_REQUEST, unix.NLM_F_DUMP>>8
	must(t, unix.Sendto(int(f.Fd()), b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}))
}

func TestNetlink(t *testing.T) {
	tests := map[string]struct {
		typ, proto int
		port       uint32
		peer       unix.SockaddrNetlink
		groups     []int
		opts       [][3]int
		flags      int
	}{
		"new":          {typ: unix.SOCK_RAW, proto: unix.NETLINK_ROUTE},
		"bound":        {typ: unix.SOCK_RAW, proto: unix.NETLINK_ROUTE, port: 4711, opts: [][3]int{{solNetlink, unix.NETLINK_EXT_ACK, 1}, {solNetlink, getStrictChk, 1}}},
		"in groups":    {typ: unix.SOCK_DGRAM, proto: unix.NETLINK_ROUTE, port: 12, groups: []int{unix.RTNLGRP_LINK, unix.RTNLGRP_IPV6_IFADDR, 34}, flags: unix.O_NONBLOCK},
		"as udev does": {typ: unix.SOCK_RAW, proto: unix.NETLINK_KOBJECT_UEVENT, port: 1 << 31, groups: []int{2}, opts: [][3]int{{unix.SOL_SOCKET, unix.SO_PASSCRED, 1}, {unix.SOL_SOCKET, unix.SO_RCVBUF, 1 << 16}}},
		"generic":      {typ: unix.SOCK_RAW, proto: unix.NETLINK_GENERIC, port: 99, opts: [][3]int{{solNetlink, unix.NETLINK_CAP_ACK, 1}, {solNetlink, unix.NETLINK_NO_ENOBUFS, 1}}},
		"to a port":    {typ: unix.SOCK_RAW, proto: unix.NETLINK_ROUTE, port: 78, peer: unix.SockaddrNetlink{Pid: 4242}},
		"to a group":   {typ: unix.SOCK_RAW, proto: unix.NETLINK_USERSOCK, port: 78, peer: unix.SockaddrNetlink{Groups: 1 << 31}, groups: []int{32}},
		"to both":      {typ: unix.SOCK_DGRAM, proto: unix.NETLINK_USERSOCK, port: 78, peer: unix.SockaddrNetlink{Pid: 99, Groups: 0b1100}},
		"sock_diag":    {typ: unix.SOCK_DGRAM, proto: unix.NETLINK_SOCK_DIAG},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ownNet(t)
			f := socket(t, tt.typ, tt.proto)
			for _, o := range tt.opts {
				must(t, unix.SetsockoptInt(int(f.Fd()), o[0], o[1], o[2]))
			}
			if tt.port != 0 {
				must(t, unix.Bind(int(f.Fd()), &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: tt.port}))
			}
			if tt.peer.Pid != 0 || tt.peer.Groups != 0 {
				tt.peer.Family = unix.AF_NETLINK
				must(t, unix.Connect(int(f.Fd()), &tt.peer))
			}
			for _, g := range tt.groups {
				must(t, unix.SetsockoptInt(int(f.Fd()), solNetlink, unix.NETLINK_ADD_MEMBERSHIP, g))
			}
			_, err := unix.FcntlInt(f.Fd(), unix.F_SETFL, tt.flags)
			must(t, err)
			was := factsOf(t, f)
			box := kindtest.New(t, Kind)
			saved := box.Dump(f)
			if d := cmp.Diff(was, factsOf(t, f), cmp.AllowUnexported(unix.SockaddrNetlink{})); d != "" {
				t.Errorf("the dump changed it:\n%s", d)
			}
			if tt.port != 0 {
				_, _, err := box.TryRestore(saved)
				refused(t, err, "another program has netlink port")
			}
			must(t, f.Close())
			got := box.Restore(saved)[0]
			if d := cmp.Diff(was, factsOf(t, got), cmp.AllowUnexported(unix.SockaddrNetlink{})); d != "" {
				t.Errorf("(-before +after):\n%s", d)
			}
			if tt.proto == unix.NETLINK_ROUTE && tt.peer.Pid == 0 {
				askLinks(t, got)
				n, err := unix.Read(int(got.Fd()), make([]byte, 1<<16))
				if err != nil || n < 32 {
					t.Errorf("asked for links: %d bytes, %v", n, err)
				}
			}
		})
	}
}

func refused(t *testing.T, err error, words string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), words) {
		t.Errorf("error %v, want %q in it", err, words)
	}
	if len(failure.Hints(err)) == 0 {
		t.Errorf("%v: no hint", err)
	}
}

func TestRefused(t *testing.T) {
	ownNet(t)
	waiting := socket(t, unix.SOCK_RAW, unix.NETLINK_ROUTE)
	askLinks(t, waiting)
	for _, tt := range []struct {
		f     *os.File
		words string
	}{
		{waiting, "messages wait in it"},
		{socket(t, unix.SOCK_RAW, unix.NETLINK_NETFILTER), "NETLINK_NETFILTER"},
		{socket(t, unix.SOCK_RAW, unix.NETLINK_CONNECTOR), "NETLINK_CONNECTOR"},
	} {
		refused(t, kindtest.Refused(t, Kind, tt.f), tt.words)
	}
	other := socket(t, unix.SOCK_RAW, unix.NETLINK_ROUTE)
	must(t, unix.Unshare(unix.CLONE_NEWNET))
	refused(t, kindtest.Refused(t, Kind, other), "another network namespace")
}
