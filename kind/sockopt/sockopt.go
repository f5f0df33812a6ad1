// Package sockopt saves the options that sockets of every family have
// (socket(7)). It is no kind but part of those of sockets.
//
// What the kernel shows: getsockopt(2).
//
// What is saved: what sk_opts_entry of CRIU has fields for (Dump), and all
// others that can be read (More).
//
// What is lost: what can be set but not read: SO_BUSY_POLL_BUDGET, SO_INQ of a
// unix socket, the BPF program of a SO_REUSEPORT group; the counter of
// SOF_TIMESTAMPING_OPT_ID, which begins at 0; what waits in the error queue
// (MSG_ERRQUEUE). A buffer larger than the kernel allows the user becomes as
// large as it allows.
package sockopt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	sk_opts "github.com/checkpoint-restore/go-criu/v7/crit/images/sk-opts"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/image"
	"ckpt/kernel"
)

// flag is an option that is on or off, and its field.
type flag struct {
	name  int
	field func(*sk_opts.SkOptsEntry) **bool
}

var flags = []flag{
	{unix.SO_REUSEADDR, func(e *sk_opts.SkOptsEntry) **bool { return &e.Reuseaddr }},
	{unix.SO_REUSEPORT, func(e *sk_opts.SkOptsEntry) **bool { return &e.SoReuseport }},
	{unix.SO_PASSCRED, func(e *sk_opts.SkOptsEntry) **bool { return &e.SoPasscred }},
	{unix.SO_PASSSEC, func(e *sk_opts.SkOptsEntry) **bool { return &e.SoPasssec }},
	{unix.SO_DONTROUTE, func(e *sk_opts.SkOptsEntry) **bool { return &e.SoDontroute }},
	{unix.SO_NO_CHECK, func(e *sk_opts.SkOptsEntry) **bool { return &e.SoNoCheck }},
	{unix.SO_BROADCAST, func(e *sk_opts.SkOptsEntry) **bool { return &e.SoBroadcast }},
	{unix.SO_KEEPALIVE, func(e *sk_opts.SkOptsEntry) **bool { return &e.SoKeepalive }},
}

// number is an option with a number as value, and its field.
type number struct {
	level, name int
	field       func(*sk_opts.SkOptsEntry) **uint32
}

var numbers = []number{
	{unix.SOL_SOCKET, unix.SO_PRIORITY, func(e *sk_opts.SkOptsEntry) **uint32 { return &e.SoPriority }},
	{unix.SOL_SOCKET, unix.SO_RCVLOWAT, func(e *sk_opts.SkOptsEntry) **uint32 { return &e.SoRcvlowat }},
	{unix.SOL_SOCKET, unix.SO_MARK, func(e *sk_opts.SkOptsEntry) **uint32 { return &e.SoMark }},
	{unix.SOL_SOCKET, unix.SO_OOBINLINE, func(e *sk_opts.SkOptsEntry) **uint32 { return &e.SoOobinline }},
	{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, func(e *sk_opts.SkOptsEntry) **uint32 { return &e.TcpKeepcnt }},
	{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, func(e *sk_opts.SkOptsEntry) **uint32 { return &e.TcpKeepidle }},
	{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, func(e *sk_opts.SkOptsEntry) **uint32 { return &e.TcpKeepintvl }},
}

// soRcvPriority gives the priority of what is received (Linux 6.15, e45469e594b2).
const soRcvPriority = 82

// more are the options that have an int as value and no field, with their
// defaults.
var more = []struct{ name, initial int }{
	{unix.SO_INCOMING_CPU, -1}, {soRcvPriority, 0},
	{unix.SO_DEBUG, 0},
	{unix.SO_TIMESTAMP, 0}, {unix.SO_TIMESTAMPNS, 0}, {unix.SO_TIMESTAMPING, 0},
	{unix.SO_TIMESTAMP_NEW, 0}, {unix.SO_TIMESTAMPNS_NEW, 0}, {unix.SO_TIMESTAMPING_NEW, 0},
	{unix.SO_RXQ_OVFL, 0}, {unix.SO_WIFI_STATUS, 0}, {unix.SO_PEEK_OFF, -1}, {unix.SO_NOFCS, 0},
	{unix.SO_LOCK_FILTER, 0}, {unix.SO_SELECT_ERR_QUEUE, 0}, {unix.SO_BUSY_POLL, 0},
	{unix.SO_ZEROCOPY, 0}, {unix.SO_PREFER_BUSY_POLL, 0}, {unix.SO_RESERVE_MEM, 0},
	{unix.SO_TXREHASH, 1}, {unix.SO_RCVMARK, 0}, {unix.SO_PASSPIDFD, 0}, {unix.SO_PASSRIGHTS, 1}, {unix.SO_INQ, 0},
}

// moreBytes are those whose value is no int, with their defaults: bytes in, the
// same bytes out.
var moreBytes = []struct {
	name    int
	initial []byte
}{
	{unix.SO_MAX_PACING_RATE, binary.NativeEndian.AppendUint64(nil, ^uint64(0))}, // 8 bytes since Linux 5.0 (6bdef102da85)
	{unix.SO_TXTIME, make([]byte, 8)},                                            // struct sock_txtime
}

// has tells an option that this kernel or this family does not have from an error.
func has(err error) (bool, error) {
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, unix.ENOPROTOOPT), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL):
		return false, nil
	}
	return false, err
}

// Dump reads the options of the socket fd. It changes nothing.
func Dump(fd uintptr) (*sk_opts.SkOptsEntry, error) {
	e := &sk_opts.SkOptsEntry{}
	for _, f := range flags {
		v, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, f.name)
		switch ok, err := has(err); {
		case err != nil:
			return nil, fmt.Errorf("read socket option %d: %w", f.name, err)
		case ok:
			*f.field(e) = proto.Bool(v != 0)
		}
	}
	for _, n := range numbers {
		v, err := unix.GetsockoptInt(int(fd), n.level, n.name)
		switch ok, err := has(err); {
		case err != nil:
			return nil, fmt.Errorf("read socket option %d of level %d: %w", n.name, n.level, err)
		case ok:
			*n.field(e) = proto.Uint32(uint32(v))
		}
	}
	for _, part := range []func(int, *sk_opts.SkOptsEntry) error{dumpBuffers, dumpTimeouts, dumpLinger, dumpFilter} {
		if err := part(int(fd), e); err != nil {
			return nil, err
		}
	}
	dev, err := device(fd)
	if err != nil {
		return nil, err
	}
	if dev != "" {
		e.SoBoundDev = proto.String(dev)
	}
	return e, nil
}

func dumpBuffers(fd int, e *sk_opts.SkOptsEntry) error {
	for _, b := range []struct {
		name  int
		field **uint32
	}{{unix.SO_SNDBUF, &e.SoSndbuf}, {unix.SO_RCVBUF, &e.SoRcvbuf}} {
		v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, b.name)
		if err != nil {
			return fmt.Errorf("read its buffer sizes: %w", err)
		}
		*b.field = proto.Uint32(uint32(v))
	}
	// SO_BUF_LOCK (Linux 5.14): which of them the program has set itself.
	v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BUF_LOCK)
	if ok, err := has(err); err != nil {
		return fmt.Errorf("read SO_BUF_LOCK: %w", err)
	} else if ok {
		e.SoBufLock = proto.Uint32(uint32(v))
	}
	return nil
}

func dumpTimeouts(fd int, e *sk_opts.SkOptsEntry) error {
	for _, t := range []struct {
		name      int
		sec, usec **uint64
	}{{unix.SO_SNDTIMEO, &e.SoSndTmoSec, &e.SoSndTmoUsec}, {unix.SO_RCVTIMEO, &e.SoRcvTmoSec, &e.SoRcvTmoUsec}} {
		v, err := unix.GetsockoptTimeval(fd, unix.SOL_SOCKET, t.name)
		if err != nil {
			return fmt.Errorf("read its timeouts: %w", err)
		}
		*t.sec, *t.usec = proto.Uint64(uint64(v.Sec)), proto.Uint64(uint64(v.Usec))
	}
	return nil
}

func dumpLinger(fd int, e *sk_opts.SkOptsEntry) error {
	l, err := unix.GetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER)
	if err != nil {
		return fmt.Errorf("read SO_LINGER: %w", err)
	}
	if l.Onoff != 0 {
		e.SoLinger = proto.Uint32(uint32(l.Linger))
	}
	return nil
}

// dumpFilter keeps each instruction as CRIU does: code, jt, jf, k from the highest
// bits down.
func dumpFilter(fd int, e *sk_opts.SkOptsEntry) error {
	prog, err := filter(uintptr(fd))
	if err != nil {
		return err
	}
	for _, i := range prog {
		e.SoFilter = append(e.SoFilter, uint64(i.Code)<<48|uint64(i.Jt)<<40|uint64(i.Jf)<<32|uint64(i.K))
	}
	return nil
}

// More reads the options that sk_opts_entry has no field for, where they are
// not as a new socket has them.
func More(fd uintptr) ([]*image.SockOption, error) {
	var out []*image.SockOption
	for _, o := range more {
		v, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, o.name)
		switch ok, err := has(err); {
		case err != nil:
			return nil, fmt.Errorf("read socket option %d: %w", o.name, err)
		case ok && v != o.initial:
			out = append(out, &image.SockOption{Level: unix.SOL_SOCKET, Name: int32(o.name), Value: int64(v)})
		}
	}
	for _, o := range moreBytes {
		b, err := kernel.SocketOption(fd, unix.SOL_SOCKET, o.name, make([]byte, len(o.initial)))
		switch ok, err := has(err); {
		case err != nil:
			return nil, fmt.Errorf("read socket option %d: %w", o.name, err)
		case ok && !bytes.Equal(b, o.initial):
			out = append(out, &image.SockOption{Level: unix.SOL_SOCKET, Name: int32(o.name), Data: b})
		}
	}
	return out, nil
}
