package unixsock

import (
	"encoding/binary"
	"fmt"

	sk_packet "github.com/checkpoint-restore/go-criu/v7/crit/images/sk-packet"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
)

// packet is a message in a queue; of a stream, any piece of it.
type packet struct {
	data   []byte
	name   []byte       // of the sender
	cred   *image.Ucred // SCM_CREDENTIALS
	rights []uint32     // SCM_RIGHTS: ids in files.img
}

// Fields of sk_packet_entry that this version of CRIU's messages only
// reserves; newer ones and Virtuozzo's have them: the sender's address, and
// its credentials as a message of uid, gid and pid.
const (
	fieldAddr  = 3
	fieldUcred = 128
)

func (p *packet) entry(id uint32) *sk_packet.SkPacketEntry {
	e := &sk_packet.SkPacketEntry{IdFor: proto.Uint32(id), Length: proto.Uint32(uint32(len(p.data)))}
	if len(p.rights) > 0 {
		e.Scm = []*sk_packet.ScmEntry{{Type: proto.Uint32(unix.SCM_RIGHTS), Rights: p.rights}}
	}
	var more []byte
	if len(p.name) > 0 {
		more = protowire.AppendTag(more, fieldAddr, protowire.BytesType)
		more = protowire.AppendBytes(more, p.name)
	}
	if p.cred != nil {
		var c []byte
		for n, v := range []uint32{p.cred.GetUid(), p.cred.GetGid(), p.cred.GetPid()} {
			c = protowire.AppendTag(c, protowire.Number(n+1), protowire.VarintType)
			c = protowire.AppendVarint(c, uint64(v))
		}
		more = protowire.AppendTag(more, fieldUcred, protowire.BytesType)
		more = protowire.AppendBytes(more, c)
	}
	e.ProtoReflect().SetUnknown(more)
	return e
}

var errPacket = failure.Damagedf("a message in a unix socket's queue does not decode")

func packetOf(e *sk_packet.SkPacketEntry, data []byte) (*packet, error) {
	p := &packet{data: data}
	for _, s := range e.GetScm() {
		if s.GetType() != unix.SCM_RIGHTS {
			return nil, failure.Unsupportedf("a message with control data of type %d", s.GetType())
		}
		p.rights = append(p.rights, s.GetRights()...)
	}
	for b := []byte(e.ProtoReflect().GetUnknown()); len(b) > 0; {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, errPacket
		}
		v := protowire.ConsumeFieldValue(num, typ, b[n:])
		if v < 0 {
			return nil, errPacket
		}
		if typ == protowire.BytesType && (num == fieldAddr || num == fieldUcred) {
			field, _ := protowire.ConsumeBytes(b[n:])
			if num == fieldAddr {
				p.name = field
			} else if err := p.decodeCred(field); err != nil {
				return nil, err
			}
		}
		b = b[n+v:]
	}
	return p, nil
}

func (p *packet) decodeCred(b []byte) error {
	var ids [3]uint32
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 || typ != protowire.VarintType || num < 1 || num > 3 {
			return errPacket
		}
		v, m := protowire.ConsumeVarint(b[n:])
		if m < 0 {
			return errPacket
		}
		ids[num-1] = uint32(v)
		b = b[n+m:]
	}
	p.cred = &image.Ucred{Uid: ids[0], Gid: ids[1], Pid: ids[2]}
	return nil
}

// control is what a received control buffer holds.
type control struct {
	fds  []int // SCM_RIGHTS, now ours
	cred *unix.Ucred
}

// parseControl closes what it does not hand over.
func parseControl(b []byte) (control, error) {
	var c control
	msgs, err := unix.ParseSocketControlMessage(b)
	if err != nil {
		return c, fmt.Errorf("read the control data of a message: %w", err)
	}
	for i := range msgs {
		m := &msgs[i]
		if m.Header.Level != unix.SOL_SOCKET {
			continue
		}
		switch m.Header.Type {
		case unix.SCM_RIGHTS:
			fds, err := unix.ParseUnixRights(m)
			if err != nil {
				return c, err
			}
			c.fds = append(c.fds, fds...)
		case unix.SCM_CREDENTIALS:
			if c.cred, err = unix.ParseUnixCredentials(m); err != nil {
				return c, err
			}
		case unix.SCM_PIDFD: // made anew by every receive (SO_PASSPIDFD)
			if len(m.Data) >= 4 {
				if fd := int32(binary.NativeEndian.Uint32(m.Data)); fd >= 0 {
					unix.Close(int(fd))
				}
			}
		}
	}
	return c, nil
}
