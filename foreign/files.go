package foreign

import (
	"fmt"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
)

// checkFile refuses an entry of files.img of a sort that is not carried, or
// whose own part is missing.
func checkFile(e *fdinfo.FileEntry) error {
	var own proto.Message
	switch typ := e.GetType(); typ {
	case fdinfo.FdTypes_REG:
		own = e.GetReg()
	case fdinfo.FdTypes_PIPE:
		own = e.GetPipe()
	case fdinfo.FdTypes_FIFO:
		own = e.GetFifo()
	case fdinfo.FdTypes_INETSK:
		own = e.GetIsk()
	case fdinfo.FdTypes_UNIXSK:
		own = e.GetUsk()
	case fdinfo.FdTypes_EVENTFD:
		own = e.GetEfd()
	case fdinfo.FdTypes_EVENTPOLL:
		own = e.GetEpfd()
	case fdinfo.FdTypes_SIGNALFD:
		own = e.GetSgfd()
	case fdinfo.FdTypes_TIMERFD:
		own = e.GetTfd()
	case fdinfo.FdTypes_INOTIFY:
		own = e.GetIfy()
	case fdinfo.FdTypes_TTY:
		own = e.GetTty()
	case fdinfo.FdTypes_MEMFD:
		own = e.GetMemfd()
	default:
		return notCarried("files.img: file %d is %s, which is not carried from an image of criu's", e.GetId(), sortOf(typ))
	}
	if !own.ProtoReflect().IsValid() {
		return failure.Damagedf("files.img: file %d lacks what it is", e.GetId())
	}
	return nil
}

// sortOf names what is not carried.
func sortOf(typ fdinfo.FdTypes) string {
	switch typ {
	case fdinfo.FdTypes_PACKETSK:
		return "a packet socket"
	case fdinfo.FdTypes_FANOTIFY:
		return "a fanotify group"
	case fdinfo.FdTypes_NETLINKSK:
		return "a netlink socket"
	case fdinfo.FdTypes_NS:
		return "a namespace held open"
	case fdinfo.FdTypes_TUNF:
		return "a TUN device"
	case fdinfo.FdTypes_EXT:
		return "external, saved by a plugin"
	case fdinfo.FdTypes_BPFMAP:
		return "a BPF map"
	}
	return fmt.Sprintf("of type %d", typ)
}
