package inet

import (
	"encoding/binary"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/kind/kindtest"
)

// A connection to itself, and one that is being made from both ends at a time.
func TestUnusualConnections(t *testing.T) {
	ownNet(t)
	c := socket(t, in4, sockStream, 0)
	bind(t, c, "127.0.0.1:80")
	connect(t, c, "127.0.0.1:80")
	refused(t, kindtest.Refused(t, Kind, c), "a TCP socket connected to itself (127.0.0.1:80)")
	say(t, c, "still")
	hear(t, c, []byte("still"))
	i := &seen{state: stateSynRecv, peer: netip.MustParseAddrPort("192.0.2.1:80")} // it lasts as long as a segment is under way
	refused(t, new(saver).checkConnection(&kind.Dump{}, &kind.Desc{File: c}, i), "a TCP connection to 192.0.2.1:80 that is being made (SYN_RECV)")
}

// A client that has said nothing to a listener which waits for that: to the
// listener the connection is still being made (SYN_RECV).
func TestDeferred(t *testing.T) {
	ownNet(t)
	l := socket(t, in4, sockStream, 0, [3]int{tcp, unix.TCP_DEFER_ACCEPT, 60})
	bind(t, l, "127.0.0.1:80")
	listen(t, l, 8)
	c := socket(t, in4, sockStream, 0)
	connect(t, c, "127.0.0.1:80")
	refused(t, kindtest.Refused(t, Kind, l, c), "a TCP connection to 127.0.0.1:80", "or is not accepted yet")
	say(t, c, "hello")
	f, _ := accepted(t, l)
	hear(t, f, []byte("hello"))
	chat(t, c, f)
}

// A killed container's connection stays for a while where it did not vanish.
func TestOldConnection(t *testing.T) {
	ownNet(t)
	c, s, _ := pairOver(t, in4, "127.0.0.1:80")
	box := kindtest.New(t, Kind)
	saved := box.Dump(c, s)
	_, _, err := box.TryRestore(saved)
	refused(t, err, "TCP connection 127.0.0.1:", "to 127.0.0.1:80", "still is a connection")
	must(t, c.Close())
	must(t, s.Close())
	deadline := time.Now().Add(30 * time.Second)
	for {
		got, _, err := box.TryRestore(saved) // net.ipv4.tcp_tw_reuse is 2: after a second, over loopback
		if err == nil {
			chat(t, got[0], got[1])
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// What criu makes of the image: one of two queues, both with their lengths.
func TestImage(t *testing.T) {
	ownNet(t)
	c, s, _ := pairOver(t, in4, "127.0.0.1:80")
	say(t, s, "hello")
	box := kindtest.New(t, Kind)
	saved := box.Dump(c, s)
	in := saved.Open(t)
	for i, want := range []uint32{5, 0} {
		e := saved.Entries[i].GetIsk()
		if !in.Has(image.TCPStream, image.TCPStream.ID(uint64(e.GetIno()))) {
			t.Fatalf("no stream for inode %x", e.GetIno())
		}
		w := &world{r: &kind.Restore{In: in}}
		got := &sock{sort: sort{in4, sockStream, tcp}, e: e}
		must(t, w.loadStream(got))
		if got.st.GetInqLen() != want || len(got.in) != int(want) {
			t.Errorf("%d bytes in the queue, %d announced, want %d", len(got.in), got.st.GetInqLen(), want)
		}
	}
	if a, b := saved.Entries[0].GetIsk(), saved.Entries[1].GetIsk(); a.GetDstPort() != 80 || a.GetSrcPort() != b.GetDstPort() || !slices.Equal(a.GetDstAddr(), words(netip.AddrFrom4([4]byte{127, 0, 0, 1}))) {
		t.Errorf("addresses: %v, %v", a, b)
	}
}

// A connection that leads out and is signed: the other end would take nothing.
func TestSigned(t *testing.T) {
	ownNet(t)
	signs := func(f *os.File) *os.File {
		// struct tcp_md5sig: address, flags, prefix, length of the key, interface, key
		b := make([]byte, 128, 216)
		binary.NativeEndian.PutUint16(b, unix.AF_INET)
		copy(b[4:], []byte{127, 0, 0, 1})
		b = binary.NativeEndian.AppendUint16(append(b, 0, 0), 6)
		b = append(b, 0, 0, 0, 0)
		b = append(b, "secret"...)
		must(t, kernel.SetSocketOption(f.Fd(), tcp, unix.TCP_MD5SIG, b[:cap(b)]))
		return f
	}
	l := signs(socket(t, in4, sockStream, 0))
	bind(t, l, "127.0.0.1:80")
	listen(t, l, 8)
	c := signs(socket(t, in4, sockStream, 0))
	connect(t, c, "127.0.0.1:80")
	n, _, err := unix.Accept4(int(l.Fd()), unix.SOCK_CLOEXEC)
	must(t, err)
	s := os.NewFile(uintptr(n), "accepted")
	defer s.Close()
	box := kindtest.New(t, Kind)
	box.OnDump = func(d *kind.Dump) { d.Outside = kind.Keep }
	_, err = box.Try(s)
	refused(t, err, "127.0.0.1:", "its segments are signed (TCP_MD5SIG)")
}
