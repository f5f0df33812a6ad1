package packetsock

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/kind/kindtest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ownNet puts the test on a thread in a network namespace of its own. The
// thread ends with the test.
func ownNet(t testing.TB) {
	t.Helper()
	runtime.LockOSThread()
	must(t, unix.Unshare(unix.CLONE_NEWNET))
	must(t, netlink.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: loopback}}))
}

func socket(t testing.TB, typ int, opts ...[2]int) *os.File {
	t.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, typ|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	f := os.NewFile(uintptr(fd), "packet")
	t.Cleanup(func() { f.Close() })
	for _, o := range opts {
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, o[0], o[1]); err != nil {
			t.Fatalf("set option %v: %v", o, err)
		}
	}
	return f
}

func bind(t testing.TB, f *os.File, protocol uint16, index int) {
	t.Helper()
	must(t, unix.Bind(int(f.Fd()), &unix.SockaddrLinklayer{Protocol: swap(protocol), Ifindex: index}))
}

var small = ring{blockSize: 4096, blocks: 2, frameSize: 1024, frames: 8, retire: 50}

func makeRing(t testing.TB, f *os.File, name int, version uint32) {
	t.Helper()
	must(t, unix.SetsockoptInt(int(f.Fd()), unix.SOL_PACKET, unix.PACKET_VERSION, int(version)))
	must(t, kernel.SetSocketOption(f.Fd(), unix.SOL_PACKET, name, small.request(version)))
}

// contentsOf maps the ring of a socket.
func contentsOf(t testing.TB, f *os.File) []byte {
	t.Helper()
	b, err := unix.Mmap(int(f.Fd()), 0, small.size(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	must(t, err)
	t.Cleanup(func() { _ = unix.Munmap(b) })
	return b
}

func put(t testing.TB, n int) {
	t.Helper()
	s := socket(t, unix.SOCK_DGRAM)
	for i := range n {
		must(t, unix.Sendto(int(s.Fd()), fmt.Appendf(nil, "packet %d", i), 0, &unix.SockaddrLinklayer{Protocol: swap(0x88b6), Ifindex: 1, Halen: 6}))
	}
}

func optionsOf(t testing.TB, f *os.File) map[int]int {
	t.Helper()
	out := map[int]int{}
	for name := range 32 {
		if v, err := unix.GetsockoptInt(int(f.Fd()), unix.SOL_PACKET, name); err == nil && name != unix.PACKET_STATISTICS && name != unix.PACKET_HDRLEN {
			out[name] = v
		}
	}
	sa, err := unix.Getsockname(int(f.Fd()))
	must(t, err)
	a := sa.(*unix.SockaddrLinklayer)
	out[-1], out[-2] = int(a.Protocol), a.Ifindex
	return out
}

func TestOptions(t *testing.T) {
	for name, opts := range map[string][][2]int{
		"new":     nil,
		"options": {{unix.PACKET_VERSION, version3}, {unix.PACKET_RESERVE, 8}, {unix.PACKET_LOSS, 1}, {unix.PACKET_VNET_HDR, 1}, {unix.PACKET_TIMESTAMP, 64}, {unix.PACKET_AUXDATA, 1}, {unix.PACKET_ORIGDEV, 1}},
		"more":    {{unix.PACKET_COPY_THRESH, 100}, {unix.PACKET_QDISC_BYPASS, 1}, {ignoreOutgoing, 1}, {unix.PACKET_TX_HAS_OFF, 1}, {vnetHdrSize, 12}},
	} {
		t.Run(name, func(t *testing.T) {
			ownNet(t)
			f := socket(t, unix.SOCK_RAW, opts...)
			bind(t, f, unix.ETH_P_IPV6, 1)
			was := optionsOf(t, f)
			got := kindtest.File(t, Kind, f)[0]
			if d := cmp.Diff(was, optionsOf(t, got)); d != "" {
				t.Errorf("(-before +after):\n%s", d)
			}
		})
	}
}

// seenOf is what sock_diag tells.
func seenOf(t testing.TB, f *os.File) *seen {
	t.Helper()
	desc := &kind.Desc{File: f}
	must(t, unix.Fstat(int(f.Fd()), &desc.Stat))
	s, err := look(&kind.Dump{}, desc)
	must(t, err)
	return s
}

// What no program can read: memberships, each as often as it was asked for.
func TestMemberships(t *testing.T) {
	ownNet(t)
	f := socket(t, unix.SOCK_RAW)
	for _, m := range []unix.PacketMreq{{Ifindex: 1, Type: unix.PACKET_MR_PROMISC}, {Ifindex: 1, Type: unix.PACKET_MR_PROMISC},
		{Ifindex: 1, Type: unix.PACKET_MR_MULTICAST, Alen: 6, Address: [8]byte{1, 2, 3, 4, 5, 6}}, {Ifindex: 1, Type: unix.PACKET_MR_ALLMULTI}} {
		must(t, unix.SetsockoptPacketMreq(int(f.Fd()), unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &m))
	}
	was := seenOf(t, f)
	if len(was.members) != 3 {
		t.Fatalf("memberships %+v", was.members)
	}
	sorted := cmpopts.SortSlices(func(a, b member) bool { return a.typ < b.typ })
	if d := cmp.Diff(was, seenOf(t, kindtest.File(t, Kind, f)[0]), cmp.AllowUnexported(seen{}, member{}, ring{}), sorted); d != "" {
		t.Errorf("(-before +after):\n%s", d)
	}
}

// An interface may have another number at the restore.
func TestInterfaceByName(t *testing.T) {
	ownNet(t)
	link := func(name string) int {
		must(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}))
		l, err := netlink.LinkByName(name)
		must(t, err)
		return l.Attrs().Index
	}
	f := socket(t, unix.SOCK_RAW)
	bind(t, f, unix.ETH_P_IP, link("here"))
	box := kindtest.New(t, Kind)
	saved := box.Dump(f)
	ownNet(t)
	_, _, err := box.TryRestore(saved)
	refused(t, err, "find network interface here")
	link("other")
	want := link("here")
	if got := optionsOf(t, box.Restore(saved)[0])[-2]; got != want {
		t.Errorf("it is bound to interface %d, want %d", got, want)
	}
}

// The kernel goes on in a ring where it was, and what waits there is there.
func TestRings(t *testing.T) {
	for _, version := range []uint32{version1, version2} {
		for _, typ := range []int{unix.SOCK_RAW, unix.SOCK_DGRAM} {
			for gone := range int(small.frames) + 2 {
				t.Run(fmt.Sprintf("version %d, type %d, after %d", version+1, typ, gone), func(t *testing.T) {
					ownNet(t)
					f := socket(t, typ)
					makeRing(t, f, unix.PACKET_RX_RING, version)
					bind(t, f, 0x88b6, 1)
					b := contentsOf(t, f)
					was := frames{small, headers[version], b}
					for i := range gone { // taken at once
						put(t, 1)
						was.put(i%int(small.frames), was.status, statusKernel)
					}
					put(t, 2)
					saved := append([]byte(nil), b...)
					got := kindtest.File(t, Kind, f)[0]
					is := frames{small, headers[version], contentsOf(t, got)}
					if d := cmp.Diff(saved, is.b); d != "" {
						t.Errorf("the ring differs (-before +after):\n%s", d)
					}
					put(t, 1)
					for i := range int(small.frames) {
						waits := (i-gone%int(small.frames)+int(small.frames))%int(small.frames) < 3
						if (is.statusOf(i) != statusKernel) != waits {
							t.Errorf("frame %d has status %#x, want waiting: %v", i, is.statusOf(i), waits)
						}
					}
				})
			}
		}
	}
}

// Blocks go on where they were, and those that wait are there.
func TestBlocks(t *testing.T) {
	ownNet(t)
	for gone := range 6 {
		f := socket(t, unix.SOCK_RAW)
		makeRing(t, f, unix.PACKET_RX_RING, version3)
		bind(t, f, 0x88b6, 1)
		was := blocks{small, contentsOf(t, f)}
		for range gone {
			at, _ := was.open()
			put(t, 1)
			was.settle()
			*was.word(at, blockStatus) = [4]byte{} // taken at once
		}
		put(t, 2)
		was.settle()
		saved := append([]byte(nil), was.b...)
		got := kindtest.File(t, Kind, f)[0]
		is := blocks{small, contentsOf(t, got)}
		if d := cmp.Diff(saved, is.b); d != "" {
			t.Errorf("after %d: the ring differs (-before +after):\n%s", gone, d)
		}
		waits, number := is.open()
		*is.word((waits+1)%2, blockStatus) = [4]byte{}
		put(t, 3)
		is.settle()
		if is.get(waits, blockStatus) == statusKernel || is.get(waits, blockPackets) != 3 || is.number(waits) != number {
			t.Errorf("after %d: block %d is number %d with %d packets", gone, waits, is.number(waits), is.get(waits, blockPackets))
		}
		if _, next := is.open(); next != number+1 {
			t.Errorf("after %d: block %d is open, want %d", gone, next, number+1)
		}
	}
}

func TestSent(t *testing.T) {
	all := func(n int, f func(frames)) frames {
		x := frames{small, headers[version2], make([]byte, small.size())}
		for i := range n {
			x.put(i, x.length, 10)
		}
		f(x)
		return x
	}
	asked := func(status uint32, which ...int) func(frames) {
		return func(f frames) {
			for _, i := range which {
				f.put(i, f.status, status)
			}
		}
	}
	for name, tt := range map[string]struct {
		frames
		want  int
		words string
	}{
		"new":               {all(0, asked(0)), 0, ""},
		"three were sent":   {all(3, asked(0)), 3, ""},
		"the next is asked": {all(5, asked(statusSendRequest, 3, 4)), 3, ""},
		"over the end":      {all(8, asked(statusSendRequest, 6, 7, 0)), 6, ""},
		"a wrong one":       {all(8, func(f frames) { asked(statusWrongFormat, 5)(f); asked(statusSendRequest, 6, 7)(f) }), 5, ""},
		"gone round":        {all(8, asked(0)), 0, "it cannot be told which frame of its ring the kernel sends next"},
		"two places":        {all(8, asked(statusSendRequest, 2, 5)), 0, "it cannot be told"},
		"all are asked":     {all(8, asked(statusSendRequest, 0, 1, 2, 3, 4, 5, 6, 7)), 0, "it cannot be told"},
		"under way":         {all(8, asked(statusSending, 2)), 0, "is being sent"},
	} {
		got, err := tt.sent()
		if tt.words != "" {
			refused(t, err, tt.words)
		} else if got != tt.want || err != nil {
			t.Errorf("%s: frame %d, %v, want %d", name, got, err, tt.want)
		}
	}
}

func refused(t testing.TB, err error, words string) {
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
	spread := socket(t, unix.SOCK_DGRAM)
	bind(t, spread, unix.ETH_P_IP, 1)
	must(t, unix.SetsockoptInt(int(spread.Fd()), unix.SOL_PACKET, unix.PACKET_FANOUT, 77|fanoutCBPF<<16))
	full := socket(t, unix.SOCK_RAW)
	makeRing(t, full, unix.PACKET_RX_RING, version3)
	bind(t, full, 0x88b6, 1)
	for range small.blocks {
		put(t, 1)
		blocks{small, contentsOf(t, full)}.settle()
	}
	round := socket(t, unix.SOCK_RAW)
	makeRing(t, round, unix.PACKET_TX_RING, version2)
	f := frames{small, headers[version2], contentsOf(t, round)}
	for i := range int(small.frames) {
		f.put(i, f.length, 1)
	}
	must(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "short"}}))
	l, err := netlink.LinkByName("short")
	must(t, err)
	gone := socket(t, unix.SOCK_RAW)
	bind(t, gone, unix.ETH_P_IP, l.Attrs().Index)
	must(t, netlink.LinkDel(l))
	for _, tt := range []struct {
		f     *os.File
		words string
	}{
		{spread, "fanout group 77, which a BPF program spreads"},
		{full, "all blocks of its ring wait for the program"},
		{round, "which frame of its ring the kernel sends next"},
		{gone, "a network interface that is gone"},
	} {
		refused(t, kindtest.Refused(t, Kind, tt.f), tt.words)
	}
	other := socket(t, unix.SOCK_RAW)
	ownNet(t)
	refused(t, kindtest.Refused(t, Kind, other), "another network namespace")
}
