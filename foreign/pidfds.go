package foreign

import (
	ext_file "github.com/checkpoint-restore/go-criu/v7/crit/images/ext-file"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/fown"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
)

// Fields of pidfd_entry, which the messages of go-criu have not (CRIU 4.1).
const (
	fieldPidfdID    = 1
	fieldPidfdInode = 2
	fieldPidfdFlags = 3
	fieldPidfdPID   = 4
	fieldPidfdOwner = 5
)

// pidfd makes an entry of files.img that is a pidfd what ckpt has for one. Of a
// process that has ended CRIU keeps no more than that it is one: refused.
func (t *translation) pidfd(e *fdinfo.FileEntry) error {
	own := &ext_file.ExtFileEntry{} // stands in for the message, whose fields are looked at by number
	own.ProtoReflect().SetUnknown(part(e, fieldFilePidfd))
	owner := &fown.FownEntry{}
	if err := proto.Unmarshal(part(own, fieldPidfdOwner), owner); err != nil {
		return failure.Damagedf("files.img: file %d, a pidfd, lacks what it is", e.GetId())
	}
	pid, flags := last(numbers(own, fieldPidfdPID)), last(numbers(own, fieldPidfdFlags))
	if pid == 0 || pid > maxPID {
		return notCarried("files.img: file %d is a pidfd of a process that has ended, which is not carried from an image of criu's", e.GetId())
	}
	e.ProtoReflect().SetUnknown(nil)
	e.Type = fdinfo.FdTypes_EXT.Enum()
	e.Ext = &ext_file.ExtFileEntry{Id: e.Id, Fown: owner}
	t.pidfds[e.GetId()] = &image.FileExtra{Id: e.GetId(), PidfdVpid: uint32(pid), PidfdFlags: uint32(flags), PidfdThread: flags&unix.PIDFD_THREAD != 0}
	return nil
}

// descriptors says of those that are pidfds what ckpt has them as.
func (t *translation) descriptors() error {
	if len(t.pidfds) == 0 {
		return nil
	}
	for _, p := range t.procs {
		if p.zombie() {
			continue
		}
		table := image.FDInfo.ID(uint64(p.ids.GetFilesId()))
		all, err := each[*fdinfo.FdinfoEntry](t.r, image.FDInfo, table)
		if err != nil {
			return err
		}
		for _, d := range all {
			if t.pidfds[d.GetId()] != nil {
				d.Type = fdinfo.FdTypes_EXT.Enum()
			}
		}
		if err := put(t, image.FDInfo, table, all...); err != nil {
			return err
		}
	}
	return nil
}

// last is the value of a field that stands once; 0: it does not.
func last(values []uint64) uint64 {
	if len(values) == 0 {
		return 0
	}
	return values[len(values)-1]
}
