package inet

import (
	"io"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"ckpt/kind"
	"ckpt/kind/kindtest"
)

// accepted takes what waits at l.
func accepted(t testing.TB, l *os.File) (f *os.File, from netip.AddrPort) {
	t.Helper()
	fd, sa, err := unix.Accept4(int(l.Fd()), unix.SOCK_CLOEXEC)
	must(t, err)
	f = os.NewFile(uintptr(fd), "accepted")
	t.Cleanup(func() { f.Close() })
	from, _ = netipOf(sa)
	return f, from
}

func portOf(t testing.TB, f *os.File) uint16 {
	t.Helper()
	s, err := look(int(f.Fd()))
	must(t, err)
	return s.local.Port()
}

// Connections that wait are accepted afterwards, in their order: from clients
// that are open, have said all, or are gone.
func TestQueue(t *testing.T) {
	for name, tt := range places {
		t.Run(name, func(t *testing.T) {
			ownNet(t)
			l := socket(t, tt.family, sockStream, 0)
			bind(t, l, tt.addr)
			listen(t, l, 8)
			client := func(flags int) *os.File {
				f := socket(t, tt.family, sockStream, 0)
				connect(t, f, tt.addr)
				_, err := unix.FcntlInt(f.Fd(), unix.F_SETFL, flags)
				must(t, err)
				return f
			}
			files := []*os.File{l, client(0), client(unix.O_NONBLOCK), client(0)}
			must(t, unix.Shutdown(int(files[3].Fd()), unix.SHUT_WR))
			gone := client(0)
			want := []uint16{portOf(t, files[1]), portOf(t, files[2]), portOf(t, files[3]), portOf(t, gone)}
			must(t, gone.Close())
			for range 2 {
				files = carryBusy(t, files...)
			}
			var got []uint16
			var ends []*os.File
			for range want {
				f, from := accepted(t, files[0])
				got, ends = append(got, from.Port()), append(ends, f)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("accepted in another order (-want +got):\n%s", d)
			}
			_, err := unix.FcntlInt(files[2].Fd(), unix.F_SETFL, 0)
			must(t, err)
			for i := range 2 {
				chat(t, files[1+i], ends[i])
			}
			hearEnd(t, ends[2], io.EOF)
			say(t, ends[2], "answer")
			hear(t, files[3], []byte("answer"))
			hearEnd(t, ends[3], io.EOF)
		})
	}
}

func TestQueueRefused(t *testing.T) {
	ownNet(t)
	l := socket(t, in4, sockStream, 0)
	bind(t, l, "127.0.0.1:80")
	listen(t, l, 8)
	c := socket(t, in4, sockStream, 0)
	connect(t, c, "127.0.0.1:80")
	say(t, c, "hello")
	refused(t, kindtest.Refused(t, Kind, l, c), "waits to be accepted on 127.0.0.1:80, over which data has come")
	f, _ := accepted(t, l)
	hear(t, f, []byte("hello")) // it is all there
	chat(t, c, f)
}

// A connection under way is under way again, and is made when there is room.
func TestConnecting(t *testing.T) {
	for name, tt := range places {
		t.Run(name, func(t *testing.T) {
			ownNet(t)
			l := socket(t, tt.family, sockStream, 0)
			bind(t, l, tt.addr)
			listen(t, l, 0)
			c := socket(t, tt.family, sockStream, 0)
			connect(t, c, tt.addr)
			late := socket(t, tt.family, sockStream, 0)
			must(t, unix.SetNonblock(int(late.Fd()), true))
			if err := unix.Connect(int(late.Fd()), sockaddr(netip.MustParseAddrPort(tt.addr), 0)); err != unix.EINPROGRESS {
				t.Fatalf("connect beyond the backlog: %v", err)
			}
			port := portOf(t, late)
			files := carry(t, l, c, late)
			late = files[2]
			if s, err := look(int(late.Fd())); err != nil || s.state != stateSynSent || s.local.Port() != port {
				t.Fatalf("it is %v, %v", s, err)
			}
			accepted(t, files[0])
			p := []unix.PollFd{{Fd: int32(late.Fd()), Events: unix.POLLOUT}}
			if n, err := unix.Poll(p, 20000); n != 1 || err != nil {
				t.Fatalf("it is never connected: %d, %v", n, err)
			}
			f, from := accepted(t, files[0])
			if from.Port() != port {
				t.Errorf("it comes from port %d, want %d", from.Port(), port)
			}
			must(t, unix.SetNonblock(int(late.Fd()), false))
			chat(t, late, f)
		})
	}
}

func TestOrder(t *testing.T) {
	now := time.Now()
	k := func(id uint32, ms int) knock {
		return knock{client: &kind.Desc{ID: id}, at: now.Add(time.Duration(ms) * time.Millisecond)}
	}
	q := []knock{{}, k(3, 1004), k(9, 0), k(1, 2000), k(2, 1009), k(4, 1000)}
	order(q)
	var got []uint32
	for _, x := range q[:5] {
		got = append(got, x.client.ID)
	}
	if d := cmp.Diff([]uint32{9, 2, 3, 4, 1}, got); d != "" || q[5].client != nil {
		t.Errorf("(-want +got):\n%s", d)
	}
}
