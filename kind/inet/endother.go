package inet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"ckpt/hold"
)

// endOther has a connection that leads out find that its other end has sent all
// it had, as it had found before: that end was told that this has arrived, and
// does not say it again. So ckpt says it, in a packet that goes as far as this
// machine.
func endOther(s *sock) (err error) {
	if !s.kept() || !gotFin(s.state()) {
		return nil
	}
	fd, err := unix.Socket(s.ipFamily(), unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return fmt.Errorf("make a raw socket: %w", err)
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	if err := setMark(fd, hold.Mark); err != nil {
		return err
	}
	if dev := s.e.GetIfname(); dev != "" {
		if err := unix.BindToDevice(fd, dev); err != nil {
			return fmt.Errorf("bind a raw socket to %s: %w", dev, err)
		}
	}
	p := pairOf(s.local, s.peer)
	to := sockaddr(netip.AddrPortFrom(p.local.Addr(), 0), 0)
	if err := unix.Sendto(fd, s.fin(), 0, to); err != nil {
		return fmt.Errorf("send the end of its stream: %w", err)
	}
	poll := []unix.PollFd{{Fd: int32(s.fd()), Events: unix.POLLRDHUP}}
	n, err := unix.Poll(poll, int(patience.Milliseconds()))
	if err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("wait for the end of its stream: %w", err)
	}
	if n == 0 {
		return errors.New("the end of its stream does not arrive: another rule of the firewall drops it")
	}
	return nil
}

// ipFamily is that of its packets: an IPv6 socket may speak IPv4.
func (s *sock) ipFamily() int {
	if s.peer.Addr().Unmap().Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// fin is the packet with which the other end's stream came to its end, with its
// IP header, of which the kernel fills in the checksum.
func (s *sock) fin() []byte {
	const (
		headers            = 5 << 4 // of five words, in the upper half
		flagFin, flagAck   = 1, 16
		ttl, noFragments   = 64, 0x4000
		header4, headerTCP = 20, 20
	)
	p := pairOf(s.local, s.peer)
	from, to := p.peer.Addr().AsSlice(), p.local.Addr().AsSlice()
	be := binary.BigEndian
	ack := s.st.GetOutqSeq() - s.st.GetOutqLen()
	if sentFin(s.state()) {
		ack--
	}
	t := be.AppendUint16(nil, p.peer.Port())
	t = be.AppendUint16(t, p.local.Port())
	t = be.AppendUint32(t, s.st.GetInqSeq()-1)
	t = be.AppendUint32(t, ack)
	t = append(t, headers, flagFin|flagAck)
	t = be.AppendUint16(t, uint16(min(s.st.GetSndWnd()>>s.st.GetSndWscale(), 0xffff)))
	t = be.AppendUint32(t, 0) // checksum, urgent pointer
	pseudo := append(append([]byte{}, from...), to...)
	pseudo = be.AppendUint32(pseudo, uint32(len(t)))
	pseudo = be.AppendUint32(pseudo, unix.IPPROTO_TCP)
	be.PutUint16(t[16:], checksum(append(pseudo, t...)))
	var ip []byte
	if len(from) == 4 {
		ip = be.AppendUint16([]byte{4<<4 | header4/4, 0}, header4+headerTCP)
		ip = be.AppendUint16(ip, 0)
		ip = be.AppendUint16(ip, noFragments)
		ip = append(ip, ttl, unix.IPPROTO_TCP, 0, 0)
	} else {
		ip = be.AppendUint16([]byte{6 << 4, 0, 0, 0}, headerTCP)
		ip = append(ip, unix.IPPROTO_TCP, ttl)
	}
	return append(append(append(ip, from...), to...), t...)
}

// checksum is that of RFC 1071.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
