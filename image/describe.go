package image

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"strings"
	"time"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/sk-inet"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/sk-unix"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/timerfd"
	"golang.org/x/sys/unix"
)

// describe says what a descriptor refers to: its sort and the thing itself.
func (s *summarizer) describe(m *fdinfo.FdinfoEntry) (typ, what string) {
	e := s.files[m.GetId()]
	if e == nil {
		return typeText(m.GetType()), "not in files.img"
	}
	switch e.GetType() {
	case fdinfo.FdTypes_REG:
		return "file", e.GetReg().GetName()
	case fdinfo.FdTypes_PIPE:
		return "pipe", fmt.Sprintf("pipe %d, %s end", e.GetPipe().GetPipeId(), endText(e.GetPipe().GetFlags()))
	case fdinfo.FdTypes_FIFO:
		return "fifo", s.pathOf(e.GetFifo().GetRegfId())
	case fdinfo.FdTypes_INETSK:
		return inetText(e.GetIsk())
	case fdinfo.FdTypes_UNIXSK:
		return "unix", s.unixText(e.GetUsk())
	case fdinfo.FdTypes_NETLINKSK:
		return "netlink", fmt.Sprintf("protocol %d", e.GetNlsk().GetProtocol())
	case fdinfo.FdTypes_EVENTFD:
		return "eventfd", fmt.Sprintf("counter %d", e.GetEfd().GetCounter())
	case fdinfo.FdTypes_EVENTPOLL:
		return "epoll", fmt.Sprintf("watches %d", len(e.GetEpfd().GetTfd()))
	case fdinfo.FdTypes_SIGNALFD:
		return "signalfd", fmt.Sprintf("%d signals", bits.OnesCount64(e.GetSgfd().GetSigmask()))
	case fdinfo.FdTypes_INOTIFY:
		return "inotify", fmt.Sprintf("%d watches", len(e.GetIfy().GetWd()))
	case fdinfo.FdTypes_FANOTIFY:
		return "fanotify", fmt.Sprintf("%d marks", len(e.GetFfy().GetMark()))
	case fdinfo.FdTypes_TIMERFD:
		return "timerfd", timerfdText(e.GetTfd())
	case fdinfo.FdTypes_TTY:
		return "tty", s.ttyText(e)
	case fdinfo.FdTypes_MEMFD:
		return "memfd", s.memfds[e.GetMemfd().GetInodeId()].GetName()
	case fdinfo.FdTypes_NS:
		return "namespace", fmt.Sprintf("namespace %d", e.GetNsf().GetNsId())
	case fdinfo.FdTypes_EXT: // ours: CRIU has no type for these
		if q := e.GetReg(); q != nil {
			return "mqueue", q.GetName()
		}
		return "pidfd", ""
	case fdinfo.FdTypes_TUNF:
		return "tun", e.GetTunf().GetNetdev()
	}
	return typeText(e.GetType()), ""
}

func typeText(t fdinfo.FdTypes) string { return strings.ToLower(t.String()) }

func endText(flags uint32) string {
	if flags&unix.O_ACCMODE == unix.O_RDONLY {
		return "reading"
	}
	return "writing"
}

func (s *summarizer) ttyText(e *fdinfo.FileEntry) string {
	if path := s.pathOf(e.GetTty().GetRegfId()); path != "" {
		return path
	}
	return fmt.Sprintf("terminal %d", e.GetTty().GetTtyInfoId())
}

func timerfdText(e *timerfd.TimerfdEntry) string {
	left, every := duration(e.GetVsec(), e.GetVnsec()), duration(e.GetIsec(), e.GetInsec())
	if left == 0 {
		return "not armed"
	}
	if every == 0 {
		return fmt.Sprintf("in %v", left.Round(time.Millisecond))
	}
	return fmt.Sprintf("in %v, then every %v", left.Round(time.Millisecond), every)
}

// tcpStates are the kernel's (include/net/tcp_states.h), from 1 on.
func tcpState(n uint32) string {
	states := []string{"", "established", "syn-sent", "syn-received", "fin-wait-1", "fin-wait-2", "time-wait",
		"closed", "close-wait", "last-ack", "listening", "closing", "new-syn-received"}
	if int(n) < len(states) {
		return states[n]
	}
	return fmt.Sprintf("state %d", n)
}

func inetText(e *sk_inet.InetSkEntry) (typ, what string) {
	typ = "inet"
	switch e.GetProto() {
	case unix.IPPROTO_TCP:
		typ = "tcp"
	case unix.IPPROTO_UDP:
		typ = "udp"
	case unix.IPPROTO_UDPLITE:
		typ = "udplite"
	case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
		typ = "icmp"
	default:
		if e.GetType() == unix.SOCK_RAW {
			typ = "raw"
		}
	}
	what = addrText(e.GetSrcAddr(), e.GetSrcPort())
	if e.GetDstPort() != 0 {
		what += " -> " + addrText(e.GetDstAddr(), e.GetDstPort())
	}
	if typ == "tcp" {
		what += " " + tcpState(e.GetState())
	}
	return typ, what
}

// ends are the state and both ends of a socket, where they tell something.
func (s *summarizer) ends(e *fdinfo.FileEntry) (state, local, remote string) {
	if i := e.GetIsk(); i != nil {
		local = addrText(i.GetSrcAddr(), i.GetSrcPort())
		if i.GetDstPort() != 0 {
			remote = addrText(i.GetDstAddr(), i.GetDstPort())
		}
		if i.GetProto() == unix.IPPROTO_TCP {
			state = tcpState(i.GetState())
		}
		return state, local, remote
	}
	u := e.GetUsk()
	if u == nil {
		return "", "", ""
	}
	local = strings.TrimSpace(unixName(u))
	if u.GetState() == unixListens {
		return "listening", local, ""
	}
	if u.GetState() == unixConnected {
		state = "connected"
	}
	if outside := s.outsideOf(u); outside != nil {
		remote = strings.TrimSpace(unixName(outside))
	} else if id, ok := s.peerOf(u); ok {
		remote = fmt.Sprintf("socket %d", id)
	}
	return state, local, remote
}

// States of a unix socket: the kernel uses TCP's here, too.
const (
	unixConnected = 1
	unixListens   = 10
)

// peerOf is the id in files.img of the socket that a unix socket is connected to.
func (s *summarizer) peerOf(e *sk_unix.UnixSkEntry) (id uint32, ok bool) {
	if e.GetPeer() == 0 {
		return 0, false
	}
	if s.unix == nil {
		s.unix = map[uint32]uint32{}
		for id, f := range s.files {
			if u := f.GetUsk(); u != nil {
				s.unix[u.GetIno()] = id
			}
		}
	}
	id, ok = s.unix[e.GetPeer()]
	return id, ok
}

// addrText writes an address that stands in network order in u32 words.
func addrText(words []uint32, port uint32) string {
	var b []byte
	for _, w := range words {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	a, ok := netip.AddrFromSlice(b)
	if !ok {
		return fmt.Sprintf("*:%d", port)
	}
	return netip.AddrPortFrom(a, uint16(port)).String()
}

// UnixOutside among the uflags of a unix_sk_entry (USK_EXTERN of CRIU's unixsk.h)
// says that it stands for a socket outside of the image: only its type and its
// name count.
const UnixOutside = 1

// outsideOf is the socket outside of the image that e is connected to; nil: it is
// not to any.
func (s *summarizer) outsideOf(e *sk_unix.UnixSkEntry) *sk_unix.UnixSkEntry {
	id, _ := s.peerOf(e)
	if o := s.files[id].GetUsk(); o.GetUflags() == UnixOutside {
		return o
	}
	return nil
}

func (s *summarizer) unixText(e *sk_unix.UnixSkEntry) string {
	out := map[uint32]string{unix.SOCK_STREAM: "stream", unix.SOCK_DGRAM: "datagram", unix.SOCK_SEQPACKET: "seqpacket"}[e.GetType()] + unixName(e)
	outside := s.outsideOf(e)
	peer, connected := s.peerOf(e)
	switch {
	case e.GetState() == unixListens:
		out += " listening"
	case outside != nil:
		out += ", connected to" + unixName(outside) + ", outside"
	case connected:
		out += fmt.Sprintf(", peer of socket %d", peer)
	}
	return strings.TrimSpace(out)
}

func unixName(e *sk_unix.UnixSkEntry) string {
	switch name := e.GetName(); {
	case len(name) == 0:
		return ""
	case name[0] == 0:
		return " @" + strings.TrimRight(string(name[1:]), "\x00")
	default:
		return " " + strings.TrimRight(string(name), "\x00")
	}
}
