package packetsock

import (
	"errors"
	"fmt"

	packet_sock "github.com/checkpoint-restore/go-criu/v7/crit/images/packet-sock"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/image"
)

// Numbers that x/sys lacks (linux/if_packet.h).
const (
	ignoreOutgoing = 23 // Linux 4.20
	vnetHdrSize    = 24 // Linux 6.4
)

// options are those that the entry has no field for; all are 0 in a new
// socket. The size of the header of PACKET_VNET_HDR is among them.
var options = []int{unix.PACKET_TX_HAS_OFF, unix.PACKET_QDISC_BYPASS, ignoreOutgoing, vnetHdrSize}

// get reads an option; 0 where the kernel or the type of socket does not have it.
func get(fd, name int) (int, error) {
	v, err := unix.GetsockoptInt(fd, unix.SOL_PACKET, name)
	if errors.Is(err, unix.ENOPROTOOPT) || errors.Is(err, unix.EOPNOTSUPP) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read packet option %d: %w", name, err)
	}
	return v, nil
}

func dumpOptions(fd int, e *packet_sock.PacketSockEntry, x *image.FileExtra) error {
	var on [4]int
	for i, name := range []int{unix.PACKET_AUXDATA, unix.PACKET_ORIGDEV, unix.PACKET_VNET_HDR, unix.PACKET_LOSS} {
		v, err := get(fd, name)
		if err != nil {
			return err
		}
		on[i] = v
	}
	e.AuxData, e.OrigDev, e.VnetHdr, e.Loss = proto.Bool(on[0] != 0), proto.Bool(on[1] != 0), proto.Bool(on[2] != 0), proto.Bool(on[3] != 0)
	for name, to := range map[int]**uint32{unix.PACKET_VERSION: &e.Version, unix.PACKET_RESERVE: &e.Reserve, unix.PACKET_TIMESTAMP: &e.Timestamp, unix.PACKET_COPY_THRESH: &e.CopyThresh} {
		v, err := get(fd, name)
		if err != nil {
			return err
		}
		*to = proto.Uint32(uint32(v))
	}
	for _, name := range options {
		v, err := get(fd, name)
		if err != nil {
			return err
		}
		if v != 0 {
			x.SockOptions = append(x.SockOptions, &image.SockOption{Level: unix.SOL_PACKET, Name: int32(name), Value: int64(v)})
		}
	}
	return nil
}

// restoreOptions: all of them before a ring is made, which fixes some.
func restoreOptions(fd int, e *packet_sock.PacketSockEntry, extra []*image.SockOption) error {
	b := func(on bool) int {
		if on {
			return 1
		}
		return 0
	}
	set := func(name, v int) error {
		if now, err := get(fd, name); err == nil && now == v {
			return nil
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, name, v); err != nil {
			return fmt.Errorf("set packet option %d to %d: %w", name, v, err)
		}
		return nil
	}
	for _, o := range extra {
		if o.GetLevel() != unix.SOL_PACKET {
			continue
		}
		if err := set(int(o.GetName()), int(o.GetValue())); err != nil {
			return err
		}
	}
	for _, o := range [][2]int{{unix.PACKET_VERSION, int(e.GetVersion())}, {unix.PACKET_RESERVE, int(e.GetReserve())}, {unix.PACKET_AUXDATA, b(e.GetAuxData())},
		{unix.PACKET_ORIGDEV, b(e.GetOrigDev())}, {unix.PACKET_VNET_HDR, b(e.GetVnetHdr())}, {unix.PACKET_LOSS, b(e.GetLoss())},
		{unix.PACKET_TIMESTAMP, int(e.GetTimestamp())}, {unix.PACKET_COPY_THRESH, int(e.GetCopyThresh())}} {
		if err := set(o[0], o[1]); err != nil {
			return err
		}
	}
	return nil
}
