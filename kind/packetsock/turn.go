package packetsock

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind/sockopt"
)

// A new ring begins at its first frame, for the kernel; the program goes on
// where it was. So the kernel is led through as many frames as it had: it
// receives some over the loopback interface, of a protocol for experiments,
// which a filter lets in by a number that nobody else sends, and sends some to
// nobody. Then the contents are put in their place.

const (
	probeProtocol = 0x88b5 // ETH_P_ for local experiments (IEEE 802)
	probeSize     = 16     // bytes, with a header of Ethernet's
	etherHeader   = 14
	loopback      = "lo"
	patience      = 1000 // ms until a frame that was sent must have come
)

// shut has a socket receive nothing.
func shut(fd int) error { return attach(fd, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}) }

// admit has it receive what begins with a number.
func admit(fd, typ int, number uint32) error {
	at := uint32(etherHeader)
	if typ == unix.SOCK_DGRAM {
		at = 0
	}
	return attach(fd, unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: number},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 1 << 16}, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K})
}

func attach(fd int, prog ...unix.SockFilter) error {
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}); err != nil {
		return fmt.Errorf("attach a filter: %w", err)
	}
	return nil
}

func (m *maker) rings() error {
	rx, tx := ringOf(m.e.GetRxRing()), ringOf(m.e.GetTxRing())
	h, ok := headers[m.e.GetVersion()]
	if !rx.there() && !tx.there() {
		return nil
	}
	if !ok || !rx.valid() || !tx.valid() {
		return failure.Damagedf("a ring of version %d, %+v, %+v", m.e.GetVersion(), rx, tx)
	}
	for _, o := range []struct {
		name int
		ring
	}{{unix.PACKET_RX_RING, rx}, {unix.PACKET_TX_RING, tx}} {
		if !o.there() {
			continue
		}
		if err := kernel.SetSocketOption(m.f.Fd(), unix.SOL_PACKET, o.name, o.request(m.e.GetVersion())); err != nil {
			return fmt.Errorf("make its ring of %d bytes: %w", o.size(), err)
		}
	}
	b, err := unix.Mmap(m.fd(), 0, rx.size()+tx.size(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map its ring: %w", err)
	}
	defer unix.Munmap(b) //nolint:errcheck // of a whole mapping
	at := m.x.GetRing()
	inBlocks := rx.there() && m.e.GetVersion() == version3
	if !inBlocks && int64(at.GetFills()) > int64(rx.frames) || inBlocks && (rx.blocks < 2 || int64(at.GetFills()) > mostLed/int64(rx.blockSize)) || int64(at.GetSends()) > int64(tx.frames) {
		return failure.Damagedf("a ring in which the kernel goes on at frame %d, %d", at.GetFills(), at.GetSends())
	}
	if inBlocks {
		err = m.leadBlocks(blocks{rx, b[:rx.size()]}, int(at.GetFills()))
	} else {
		err = m.receive(frames{rx, h, b[:rx.size()]}, int(at.GetFills()))
	}
	if err != nil {
		return err
	}
	if err := m.send(frames{tx, h, b[rx.size():]}, int(at.GetSends())); err != nil {
		return err
	}
	clear(b)
	return m.contents(b)
}

// receive has the kernel fill n frames.
func (m *maker) receive(f frames, n int) error {
	if n == 0 {
		return nil
	}
	return m.probe(func(send func([]byte) error) error {
		for i := range n {
			if err := send(nil); err != nil {
				return err
			}
			p := []unix.PollFd{{Fd: int32(m.fd()), Events: unix.POLLIN}}
			for f.statusOf(i) == statusKernel {
				f.put((i+int(f.ring.frames)-1)%int(f.ring.frames), f.status, statusKernel) // which is not waited for
				if n, err := unix.Poll(p, patience); n == 0 || err != nil && err != unix.EINTR {
					return fmt.Errorf("frame %d of its ring does not come over the loopback interface: %w", i, err)
				}
			}
		}
		return nil
	})
}

// probe lets the socket receive what do sends, and nothing else.
func (m *maker) probe(do func(send func(data []byte) error) error) error {
	lo, err := sockopt.InterfaceIndex(m.fd(), loopback)
	if err != nil {
		return err
	}
	to := &unix.SockaddrLinklayer{Protocol: swap(probeProtocol), Ifindex: int(lo), Halen: 6}
	from, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make a socket to send by: %w", err)
	}
	defer unix.Close(from)
	cookie, err := unix.GetsockoptUint64(from, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil {
		return fmt.Errorf("read SO_COOKIE: %w", err)
	}
	if err := admit(m.fd(), int(m.e.GetType()), uint32(cookie)); err != nil {
		return err
	}
	if err := unix.Bind(m.fd(), to); err != nil {
		return fmt.Errorf("bind it to the loopback interface: %w", err)
	}
	mark := binary.BigEndian.AppendUint32(nil, uint32(cookie))
	if err := do(func(data []byte) error {
		if err := unix.Sendto(from, append(mark[:len(mark):len(mark)], data...), 0, to); err != nil {
			return fmt.Errorf("send over the loopback interface: %w", err)
		}
		return nil
	}); err != nil {
		return err
	}
	return shut(m.fd())
}

// send has the kernel send n frames.
func (m *maker) send(f frames, n int) error {
	if n == 0 {
		return nil
	}
	lo, err := sockopt.InterfaceIndex(m.fd(), loopback)
	if err != nil {
		return err
	}
	header, err := get(m.fd(), vnetHdrSize)
	if err != nil {
		return err
	}
	if header == 0 && m.e.GetVnetHdr() {
		header = 10 // struct virtio_net_hdr
	}
	for i := range n {
		f.put(i, f.length, uint32(header+probeSize))
		f.put(i, f.mac, uint32(f.data)<<16|uint32(f.data)) // tp_mac and tp_net, for PACKET_TX_HAS_OFF
		f.put(i, f.status, statusSendRequest)
	}
	if err := unix.Sendto(m.fd(), nil, 0, &unix.SockaddrLinklayer{Protocol: swap(probeProtocol), Ifindex: int(lo), Halen: 6}); err != nil {
		return fmt.Errorf("send %d frames of its ring over the loopback interface: %w", n, err)
	}
	for i := range n {
		if s := f.statusOf(i); s&(statusSendRequest|statusSending|statusWrongFormat) != 0 {
			return fmt.Errorf("frame %d of its ring is not sent: status %#x", i, s)
		}
	}
	return nil
}

// contents puts the saved pages in.
func (m *maker) contents(b []byte) error {
	if m.x.GetRing() == nil {
		return nil
	}
	pages, err := image.PageRuns(m.r.In, pagesID(m.x.GetRing().GetShmid()))
	if err != nil {
		return err
	}
	defer pages.Close()
	for _, run := range pages.Runs {
		if run.Vaddr >= uint64(len(b)) || run.Pages > (uint64(len(b))-run.Vaddr)/image.PageSize {
			return failure.Damagedf("contents of a ring at %#x, behind its end at %#x", run.Vaddr, len(b))
		}
		part := b[run.Vaddr:][:run.Pages*image.PageSize]
		if err := run.Read(run.Vaddr, part); err != nil {
			return fmt.Errorf("read the contents of its ring: %w", err)
		}
	}
	return nil
}
