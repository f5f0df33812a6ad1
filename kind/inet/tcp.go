package inet

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"ckpt/kernel"
)

// Offsets in struct tcp_info (linux/tcp.h). x/sys hides the window scales.
const (
	infoState     = 0
	infoOptions   = 5
	infoScales    = 6 // send: low four bits, receive: high four
	infoMSS       = 16
	infoUnacked   = 24
	infoSacked    = 28
	infoSegsIn    = 140 // Linux 4.2
	infoDelivered = 192 // segments that have arrived, the SYN among them (Linux 4.18)
	infoSize      = 196
)

func (s *seen) lookTCP(fd int) error {
	b, err := kernel.SocketOption(uintptr(fd), unix.IPPROTO_TCP, unix.TCP_INFO, make([]byte, infoSize))
	if err != nil {
		return fmt.Errorf("read TCP_INFO: %w", err)
	}
	if len(b) < infoSize {
		return fmt.Errorf("read TCP_INFO: %d bytes", len(b))
	}
	s.state, s.tcpOpts, s.sndW, s.rcvW = int(b[infoState]), b[infoOptions], b[infoScales]&0xf, b[infoScales]>>4
	s.mss = int(binary.NativeEndian.Uint32(b[infoMSS:]))
	if s.state == stateListen {
		s.waiting, s.backlog = int(binary.NativeEndian.Uint32(b[infoUnacked:])), int(binary.NativeEndian.Uint32(b[infoSacked:]))
	}
	if s.state != stateClose {
		return nil
	}
	// One that was restored has delivered nothing, but agreed on options.
	s.unmade = s.tcpOpts == 0 && binary.NativeEndian.Uint32(b[infoDelivered:]) == 0
	s.answered = binary.NativeEndian.Uint32(b[infoSegsIn:]) > 0
	// IP_PROTOCOL is the port that it holds (Linux 6.4, 3632679d9e4f):
	// getsockname(2) goes on to show that of a connection that has ended.
	n, err := unix.GetsockoptInt(fd, unix.IPPROTO_IP, ipProtocol)
	if ok, err := has(err); err != nil {
		return fmt.Errorf("read the port it holds (IP_PROTOCOL): %w", err)
	} else if ok && n == 0 {
		s.local = netip.AddrPortFrom(s.local.Addr(), 0)
	}
	return nil
}
