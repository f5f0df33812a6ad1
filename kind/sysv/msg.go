package sysv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/ipc-msg"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/tracee"
)

// maxText bounds a message, in bytes: it has to fit into a script in init.
// msgmax is 8192 unless somebody raised it.
const maxText = 512 << 10

// dumpMsg saves every message queue with its messages.
func dumpMsg(d *kind.Dump, ns string) error {
	all, err := messageQueues().list(d)
	if err != nil {
		return err
	}
	for _, o := range all {
		e := &ipc_msg.IpcMsgEntry{Desc: o.desc(), Qbytes: proto.Uint32(uint32(min(o.word(msgQbytes), math.MaxUint32))), Qnum: proto.Uint32(uint32(o.word(msgQnum)))}
		if err := d.Out.Add(image.IPCMsg, ns, e); err != nil {
			return err
		}
		pids, err := messageQueues().statPids(d, o, msgLspid, msgLrpid)
		if err == nil {
			err = dumpPids(d, ns, image.SysVPids_MESSAGES, o, pids)
		}
		if err == nil {
			err = dumpMessages(d, ns, o)
		}
		if err != nil {
			return fmt.Errorf("message queue %d: %w", o.id, readable(err))
		}
	}
	return nil
}

// dumpMessages copies the messages by their indices: none is longer than all
// of them together.
func dumpMessages(d *kind.Dump, ns string, o object) error {
	n, most := int(o.word(msgQnum)), int(min(o.word(msgCbytes), maxText))
	perBatch := max(1, batch/(pad8(8+most)+16+80))
	for from := 0; from < n; from += perBatch {
		if err := dumpSome(d, ns, o.id, from, min(n, from+perBatch), most); err != nil {
			return err
		}
	}
	return nil
}

func dumpSome(d *kind.Dump, ns string, id, from, end, most int) error {
	bufs, steps := make([]uint64, end-from), make([]tracee.Step, end-from)
	return d.Inside(func(s *tracee.Script) error {
		for i := range bufs {
			bufs[i] = s.Space(8 + most)
			steps[i] = s.Try(unix.SYS_MSGRCV, uint64(id), bufs[i], uint64(most), uint64(from+i), kernel.MsgCopy|unix.IPC_NOWAIT)
		}
		return nil
	}, func(s *tracee.Script) error {
		for i := range bufs {
			n, err := s.Result(steps[i])
			switch {
			case errors.Is(err, unix.ENOSYS):
				return failure.Unsupportedf("this kernel cannot copy messages (CONFIG_CHECKPOINT_RESTORE)")
			case errors.Is(err, unix.EINVAL), errors.Is(err, unix.E2BIG):
				return failure.WithHint(failure.Unsupportedf("message %d is longer than kernel.msgmax, or than %d bytes", from+i, maxText),
					"let it be received, or raise kernel.msgmax inside if that was lowered")
			case err != nil:
				return fmt.Errorf("copy message %d: %w", from+i, err)
			}
			b := s.Bytes(bufs[i], 8+int(n))
			m := &ipc_msg.IpcMsg{Mtype: proto.Uint64(binary.NativeEndian.Uint64(b)), Msize: proto.Uint32(uint32(n))}
			if err := d.Out.Add(image.IPCMsg, ns, m, padded(append([]byte(nil), b[8:]...))); err != nil {
				return err
			}
		}
		return nil
	})
}

// queue is a message queue of the image.
type queue struct {
	e        *ipc_msg.IpcMsgEntry
	messages []message
}

type message struct {
	kind int64
	text []byte
}

// longest and room are the limits that the queue needs, in bytes.
func (q *queue) longest() (n uint64) {
	for _, m := range q.messages {
		n = max(n, uint64(len(m.text)))
	}
	return n
}

func (q *queue) room() uint64 {
	sum := uint64(0)
	for _, m := range q.messages {
		sum += uint64(len(m.text))
	}
	// One message more has to fit in for a moment, whose text is empty: there
	// are as many at most as bytes are allowed (msg_fits_inqueue() in ipc/msg.c).
	return max(sum, uint64(q.e.GetQbytes()), uint64(len(q.messages)+1))
}

// readQueues reads the file, whose entries are of two messages by turns.
func readQueues(in *image.Reader, ns string) ([]*queue, error) {
	d, err := in.Decode(image.IPCMsg, ns)
	if err != nil || d == nil {
		return nil, err
	}
	defer d.Close()
	var out []*queue
	for d.Rest() > 0 {
		q := &queue{e: &ipc_msg.IpcMsgEntry{}}
		if err := d.Next(q.e); err != nil {
			return nil, err
		}
		for i := range q.e.GetQnum() {
			var m ipc_msg.IpcMsg
			if d.Rest() == 0 {
				return nil, failure.Damagedf("%s ends at message %d of %d", image.IPCMsg.Name(ns), i, q.e.GetQnum())
			}
			if err := d.Next(&m); err != nil {
				return nil, err
			}
			if int64(m.GetMtype()) <= 0 || m.GetMsize() > math.MaxInt32 {
				return nil, failure.Damagedf("message queue %d has a message of type %d and %d bytes", q.e.GetDesc().GetId(), int64(m.GetMtype()), m.GetMsize())
			}
			text, err := d.Data(pad8(int(m.GetMsize())))
			if err != nil {
				return nil, err
			}
			q.messages = append(q.messages, message{int64(m.GetMtype()), text[:m.GetMsize()]})
		}
		out = append(out, q)
	}
	return out, nil
}

// restore makes it; pids are those who sent and received last.
func (q *queue) restore(r *kind.Restore, pids []pidns.VPID) error {
	e, s := q.e.GetDesc(), messageQueues()
	qbytes := func(n uint64) func([]byte) {
		return func(b []byte) { binary.NativeEndian.PutUint64(b[msgQbytes:], n) }
	}
	if err := s.make(r, 0, e, []uintptr{uintptr(e.GetKey())}, 0, qbytes(q.room())); err != nil {
		return err
	}
	for i, m := range q.messages {
		if err := kernel.Msgsnd(int(e.GetId()), m.kind, m.text); err != nil {
			return fmt.Errorf("send message %d again: %w", i, err)
		}
	}
	if err := q.setPids(r, pids); err != nil {
		return err
	}
	if q.room() == uint64(q.e.GetQbytes()) {
		return nil
	}
	return s.own(e, qbytes(uint64(q.e.GetQbytes())))
}
