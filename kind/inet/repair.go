package inet

import (
	"encoding/binary"
	"errors"
	"fmt"

	tcp_stream "github.com/checkpoint-restore/go-criu/v7/crit/images/tcp-stream"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/kernel"
)

// TCP_REPAIR (Linux 3.5, commit ee9952831cfd) lets a socket be connected
// without a handshake and its queues be read and filled. It takes
// CAP_NET_ADMIN over the socket's network namespace.
const (
	repairOn      = 1
	repairOff     = 0  // and send a window probe
	repairOffMute = -1 // TCP_REPAIR_OFF_NO_WP, Linux 4.18

	noQueue   = 0
	recvQueue = 1
	sendQueue = 2

	tcpOptMaxSeg     = 2
	tcpOptWindow     = 3
	tcpOptSackPerm   = 4
	tcpOptTimestamps = 8

	infoOptTimestamps = 1 // TCPI_OPT_ bits
	infoOptSack       = 2
	infoOptWscale     = 4

	siocOutqNSD = 0x894b // bytes not sent yet (linux/sockios.h)
)

func repair(fd, mode int) error {
	err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, mode)
	switch {
	case errors.Is(err, unix.EPERM):
		return errNoRepair(err)
	case err != nil:
		return fmt.Errorf("set TCP_REPAIR to %d: %w", mode, err)
	}
	return nil
}

// leave ends repair mode with nothing sent. The chosen queue would go on
// showing (TCP_QUEUE_SEQ).
func leave(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR_QUEUE, noQueue); err != nil {
		return fmt.Errorf("choose no queue (TCP_REPAIR_QUEUE): %w", err)
	}
	return repair(fd, repairOffMute)
}

func errNoRepair(err error) error {
	return failure.WithHint(failure.Mark(failure.ErrUnsupported, fmt.Errorf("to carry it takes CAP_NET_ADMIN over its network (TCP_REPAIR): %w", err)),
		"start the container with a network of its own (--net none)", "or run ckpt as root")
}

// queueSeq is the sequence number at the end of a queue. The queue stays
// chosen for recv(2).
func queueSeq(fd, queue int) (uint32, error) {
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR_QUEUE, queue); err != nil {
		return 0, fmt.Errorf("choose queue %d (TCP_REPAIR_QUEUE): %w", queue, err)
	}
	n, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_QUEUE_SEQ)
	if err != nil {
		return 0, fmt.Errorf("read the sequence number of queue %d: %w", queue, err)
	}
	return uint32(n), nil
}

func setQueueSeq(fd, queue int, seq uint32) error {
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR_QUEUE, queue); err != nil {
		return fmt.Errorf("choose queue %d (TCP_REPAIR_QUEUE): %w", queue, err)
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_QUEUE_SEQ, int(int32(seq))); err != nil {
		return fmt.Errorf("set the sequence number of queue %d: %w", queue, err)
	}
	return nil
}

// getWindow reads struct tcp_repair_window (Linux 4.8).
func getWindow(fd int, e *tcp_stream.TcpStreamEntry) error {
	b, err := kernel.SocketOption(uintptr(fd), unix.IPPROTO_TCP, unix.TCP_REPAIR_WINDOW, make([]byte, 20))
	if errors.Is(err, unix.ENOPROTOOPT) {
		return nil
	}
	if err != nil || len(b) < 20 {
		return fmt.Errorf("read its window (TCP_REPAIR_WINDOW): %w", err)
	}
	for i, f := range []**uint32{&e.SndWl1, &e.SndWnd, &e.MaxWindow, &e.RcvWnd, &e.RcvWup} {
		*f = proto.Uint32(binary.NativeEndian.Uint32(b[4*i:]))
	}
	return nil
}

func setWindow(fd int, e *tcp_stream.TcpStreamEntry) error {
	if e.SndWnd == nil {
		return nil // the first answer of the other end tells
	}
	var b []byte
	for _, v := range []uint32{e.GetSndWl1(), e.GetSndWnd(), e.GetMaxWindow(), e.GetRcvWnd(), e.GetRcvWup()} {
		b = binary.NativeEndian.AppendUint32(b, v)
	}
	if err := kernel.SetSocketOption(uintptr(fd), unix.IPPROTO_TCP, unix.TCP_REPAIR_WINDOW, b); err != nil {
		return fmt.Errorf("set its window (TCP_REPAIR_WINDOW): %w", err)
	}
	return nil
}

// setNegotiated sets what the two ends agreed on when they connected:
// struct tcp_repair_opt, a code and a value each.
func setNegotiated(fd int, e *tcp_stream.TcpStreamEntry) error {
	var b []byte
	add := func(code, v uint32) {
		b = binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(b, code), v)
	}
	if e.GetOptMask()&infoOptSack != 0 {
		add(tcpOptSackPerm, 0)
	}
	if e.GetOptMask()&infoOptWscale != 0 {
		add(tcpOptWindow, e.GetSndWscale()|e.GetRcvWscale()<<16)
	}
	if e.GetOptMask()&infoOptTimestamps != 0 {
		add(tcpOptTimestamps, 0)
	}
	add(tcpOptMaxSeg, e.GetMssClamp())
	if err := kernel.SetSocketOption(uintptr(fd), unix.IPPROTO_TCP, unix.TCP_REPAIR_OPTIONS, b); err != nil {
		return fmt.Errorf("set what its ends agreed on (TCP_REPAIR_OPTIONS): %w", err)
	}
	if e.Timestamp != nil {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_TIMESTAMP, int(int32(e.GetTimestamp()))); err != nil {
			return fmt.Errorf("set its clock (TCP_TIMESTAMP): %w", err)
		}
	}
	return nil
}

// pour sends data into what is chosen: a queue in repair mode, else the other
// end. The kernel may take a part of it at a time.
func pour(fd int, data []byte) error {
	for len(data) > 0 {
		n, err := unix.SendmsgN(fd, data[:min(len(data), 1<<16)], nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOMEM), err == nil && n == 0:
			return failure.WithHint(fmt.Errorf("%d bytes that were on their way do not fit: %w", len(data), unix.ENOBUFS),
				"raise net.core.wmem_max and net.core.rmem_max (sysctl), or restore as root")
		case err != nil:
			return fmt.Errorf("fill a queue: %w", err)
		}
		data = data[n:]
	}
	return nil
}
