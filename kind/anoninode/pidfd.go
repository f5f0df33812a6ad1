package anoninode

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	ext_file "github.com/checkpoint-restore/go-criu/v7/crit/images/ext-file"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/pidns"
)

// thread is PIDFD_THREAD as a status flag of the descriptor.
const thread = unix.O_EXCL

// isPidfd: since Linux 6.9 pidfds have a file system of their own, which goes
// on showing the old name.
func isPidfd(link string) bool { return link == prefix+"[pidfd]" || strings.HasPrefix(link, "pidfd:[") }

// pidOf is the virtual pid of the process that desc refers to; 0 if it has been
// waited for, when nobody is told its pid any more.
func pidOf(d *kind.Dump, desc *kind.Desc) (pidns.VPID, error) {
	s, _ := desc.InfoLine("Pid")
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, fmt.Errorf("read its process from fdinfo: %w", err)
	}
	if n < 0 {
		return 0, nil
	}
	v, ok := d.VPID(pidns.HostPID(n))
	if !ok {
		return 0, failure.WithHint(failure.Unsupportedf("a pidfd of host pid %d, outside the container", n), "close it before the dump")
	}
	return v, nil
}

func dumpPidfd(d *kind.Dump, desc *kind.Desc) (*fdinfo.FileEntry, error) {
	v, err := pidOf(d, desc)
	if err != nil {
		return nil, err
	}
	owner, err := d.Owner(desc)
	if err != nil {
		return nil, err
	}
	x := &image.FileExtra{Id: desc.ID, PidfdVpid: uint32(v), PidfdThread: desc.Info.Flags&thread != 0, PidfdFlags: desc.StatusFlags()}
	if v == 0 {
		if x.PidfdHeld, err = d.Ended(int(desc.File.Fd()), 0); err != nil {
			return nil, err
		}
	}
	if err := d.Out.Add(image.FilesExtra, "", x); err != nil {
		return nil, err
	}
	return &fdinfo.FileEntry{Ext: &ext_file.ExtFileEntry{Id: proto.Uint32(desc.ID), Fown: owner}}, nil
}

func restorePidfd(r *kind.Restore, e *ext_file.ExtFileEntry, x *image.FileExtra) (*os.File, error) {
	v := pidns.VPID(x.GetPidfdVpid())
	if n := x.GetPidfdHeld(); n != 0 {
		var err error
		if v, err = r.Ended(n); err != nil {
			return nil, fmt.Errorf("a pidfd of an ended process: %w", err)
		}
	}
	host, ok, err := r.Thread(v)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, failure.Damagedf("a pidfd of pid %d, which the image does not hold", v)
	}
	flags := 0
	if x.GetPidfdThread() {
		flags = unix.PIDFD_THREAD
	}
	fd, err := unix.PidfdOpen(int(host), flags)
	if err != nil {
		return nil, fmt.Errorf("open a pidfd of pid %d: %w", v, err)
	}
	f, err := kind.NewFile(fd, x.GetPidfdFlags(), prefix+"[pidfd]")
	if err != nil {
		return nil, err
	}
	if err := r.RestoreOwner(f, e.GetFown()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
