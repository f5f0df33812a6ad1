// Package regfile saves files that are reached by a path: regular files,
// directories, devices without state (/dev/null), files of /proc and /sys,
// and O_PATH descriptors of anything. Mapped files, executables and working
// directories come through it too.
//
// What the kernel shows: the path (links of /proc), flags and position
// (fdinfo), stat(2).
//
// What is saved: path, flags, position, owner (F_SETOWN), and of a regular
// file the size, so that a restore notices a file that has changed. Where the
// path that the kernel shows does not lead to the file any more and the file has
// others, one of these (Dump.Path). What it is and what is in it only where no
// path leads to it any more.
//
// What is lost: see Limits. Refused are files that have a name under which they
// are not found, and devices with state.
//
// Needs: openat2(2), Linux 5.6.
package regfile

import (
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/regfile"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/kind/ghost"
)

// Kind is everything with a path. It comes after the kinds of what also has
// one: FIFOs, terminals, memfds.
func Kind() kind.File {
	s := &saver{}
	r := &restorer{warned: map[string]bool{}}
	return kind.File{
		Name:     "file",
		Saves:    "files, directories, symbolic links, O_PATH, devices without state: by path, with position, flags, owner (F_SETOWN); deleted ones with their contents",
		Refuses:  "devices with state; a deleted file whose other name is not found; a file that lies outside the container's mounts; delegations (F_SETDELEG); directory notification (F_NOTIFY); triggers of pressure stall information, and of control groups (cgroup.event_control); mounts that have no place (open_tree(2), fsmount(2))",
		Type:     fdinfo.FdTypes_REG,
		Restores: func(e *fdinfo.FileEntry) bool { return !isName(e.GetReg()) },
		Owns:     owns,
		Refuse:   refuse,
		Dump:     s.dump,
		Restore:  r.restore,
		Check:    r.check,
		Inside:   inside,
		Limits: "a file of /proc is read on from the saved position in its new text, and one of a process that has ended, read in part, ends there; " +
			"advice (posix_fadvise, readahead) is not seen; " +
			"a file that was opened by another name, lost since, is shown by one that it has, and a deleted one whose name another file has, by one beside it; " +
			"of a deleted file O_NOFOLLOW and space that is only reserved (fallocate) are lost, and one made with O_TMPFILE and O_EXCL can be given a name",
	}
}

// isName: FIFOs keep their path, flags and owner in an entry of this type
// that is not a file of its own.
func isName(e *regfile.RegFileEntry) bool {
	return e.GetMode()&unix.S_IFMT == unix.S_IFIFO && e.GetFlags()&unix.O_PATH == 0
}

func owns(d *kind.Desc) bool {
	if !strings.HasPrefix(d.Link, "/") {
		return false
	}
	if d.Info.Flags&unix.O_PATH != 0 {
		return true
	}
	switch d.Stat.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR, unix.S_IFCHR, unix.S_IFBLK:
		return true
	}
	return false
}

func refuse(d *kind.Dump, desc *kind.Desc) error {
	_, _, err := look(d, desc)
	return err
}

// where is how a file is reached.
type where int

const (
	byPath where = iota
	gone         // nothing leads to it any more: it goes into the image
	ofDead       // by its path, while the process stands in for it that it is of
)

// look finds the file by its path.
func look(d *kind.Dump, desc *kind.Desc) (path string, is where, err error) {
	if desc.Info.Flags&unix.O_PATH == 0 {
		if err := refuseDevice(desc); err != nil {
			return "", byPath, err
		}
		if err := refuseLock(desc); err != nil {
			return "", byPath, err
		}
		if err := refuseAsked(desc); err != nil {
			return "", byPath, err
		}
	} else if err := refuseDetached(d, desc); err != nil {
		return "", byPath, err
	}
	path, lost, err := d.Path(desc)
	if err != nil || !lost {
		return path, byPath, err
	}
	if d.IsLog(desc.Stat) {
		return path, byPath, nil // a restore opens the new container's instead
	}
	pseudo, err := pseudoOf(desc)
	if err != nil {
		return "", byPath, err
	}
	if pseudo == ofProc && ended(d, desc, path) {
		return path, ofDead, nil
	}
	if pseudo != "" {
		return "", byPath, failure.WithHint(failure.Unsupportedf("%s is %s", path, pseudo), leaveHint(desc))
	}
	return path, gone, ghost.Refuse(desc, path)
}

// leaveHint is what to do about a file that cannot be saved: being in a
// directory is no descriptor.
func leaveHint(desc *kind.Desc) string {
	if desc.FD < 0 && desc.Stat.Mode&unix.S_IFMT == unix.S_IFDIR {
		return "let the program go to another directory before the dump"
	}
	return "let the program close it before the dump"
}

// pseudoOf names the file of a file system whose files the kernel makes up,
// so that size and contents say nothing, and one that is not found cannot be
// made again; "" for all others.
func pseudoOf(desc *kind.Desc) (string, error) {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(desc.File.Fd()), &fs); err != nil {
		return "", fmt.Errorf("find its file system: %w", err)
	}
	switch int64(fs.Type) {
	case unix.PROC_SUPER_MAGIC:
		return ofProc, nil
	case unix.SYSFS_MAGIC, unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC, unix.BPF_FS_MAGIC:
		return "a file of the kernel's that is gone", nil
	case unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC:
		return "a file of a control group that is gone, or hidden from the container", nil
	case unix.HUGETLBFS_MAGIC:
		return "a deleted file in huge pages, which is not carried", nil
	case unix.SECRETMEM_MAGIC:
		return "secret memory (memfd_secret), which nobody else can read", nil
	}
	return "", nil
}

const ofProc = "a file of /proc that its process does not show any more, or not of the container's /proc"

// Devices whose driver keeps nothing for an open file (drivers/char/mem.c,
// Documentation/admin-guide/devices.txt): null, zero, full, random, urandom; of
// kmsg only a reader's place in the log (kernel/printk/printk.c). The console is
// the machine's, with its attributes.
const (
	memMajor = 1
	auxMajor = 5
)

func stateless(desc *kind.Desc) bool {
	major, minor := unix.Major(desc.Stat.Rdev), unix.Minor(desc.Stat.Rdev)
	if major != memMajor {
		return major == auxMajor && minor == 1
	}
	switch minor {
	case 3, 5, 7, 8, 9:
		return true
	case 11:
		return desc.Info.Flags&unix.O_ACCMODE == unix.O_WRONLY
	}
	return false
}

func refuseDevice(desc *kind.Desc) error {
	what := ""
	switch desc.Stat.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		if stateless(desc) {
			return nil
		}
		what = "character"
	case unix.S_IFBLK:
		what = "block"
	default:
		return nil
	}
	return failure.WithHint(
		failure.Unsupportedf("%s is a %s device (%d:%d): what its driver keeps is not carried",
			desc.Link, what, unix.Major(desc.Stat.Rdev), unix.Minor(desc.Stat.Rdev)),
		"let the program close the device before the dump")
}

// refuseLock: kind/filelock needs a descriptor to take a lock by.
func refuseLock(desc *kind.Desc) error {
	for _, l := range desc.Info.Lines {
		f := strings.Fields(l)
		if len(f) < 3 || f[0] != "lock:" {
			continue
		}
		switch {
		case f[2] == "DELEG":
			return failure.WithHint(failure.Unsupportedf("a delegation (F_SETDELEG) of %s is not carried", desc.Link),
				"let the program give the delegation back before the dump")
		case desc.FD < 0 && f[2] != "POSIX":
			return failure.WithHint(failure.Unsupportedf("a lock on %s is held by a descriptor on its way in a socket", desc.Link), "try again once the program has received it")
		}
	}
	return nil
}

// noPosition is what CRIU leaves the position alone by.
const noPosition = math.MaxUint64

// position is where the next read(2) reads; noPosition for devices without one.
func position(desc *kind.Desc) uint64 {
	if desc.Stat.Mode&unix.S_IFMT == unix.S_IFCHR && desc.Info.Flags&unix.O_PATH == 0 {
		if _, err := unix.Seek(int(desc.File.Fd()), 0, io.SeekCurrent); err == unix.ESPIPE {
			return noPosition
		}
	}
	return uint64(desc.Info.Pos)
}

// saver keeps what lives as long as one dump.
type saver struct{ ghosts ghost.Saver }

func (s *saver) dump(d *kind.Dump, desc *kind.Desc) (*fdinfo.FileEntry, error) {
	path, is, err := look(d, desc)
	if err != nil {
		return nil, err
	}
	if is == gone {
		if err := s.ghosts.Save(d, desc, desc.ID); err != nil {
			return nil, err
		}
	}
	e := &regfile.RegFileEntry{
		Id: proto.Uint32(desc.ID), Flags: proto.Uint32(desc.StatusFlags()), Pos: proto.Uint64(position(desc)),
		Name: proto.String(path), MntId: proto.Int32(-1), Mode: proto.Uint32(desc.Stat.Mode),
	}
	if e.Fown, err = d.PathOwner(desc); err != nil {
		return nil, err
	}
	pseudo, err := pseudoOf(desc)
	if err != nil {
		return nil, err
	}
	x := &image.FileExtra{Id: desc.ID}
	if desc.Stat.Mode&unix.S_IFMT == unix.S_IFREG && pseudo == "" {
		e.Size = proto.Uint64(uint64(desc.Stat.Size))
		x.MtimeNs, x.Dev, x.Ino = desc.Stat.Mtim.Nano(), desc.Stat.Dev, desc.Stat.Ino
		if desc.Info.Flags&unix.O_PATH == 0 { // before 4.13 there is none
			x.WriteHint, _ = kernel.WriteHint(desc.File.Fd())
		}
	}
	switch is {
	case gone:
		err = ghost.Describe(desc, x)
	case ofDead:
		x.ProcHeld, err = noteEnded(d, path)
	}
	if err != nil {
		return nil, err
	}
	if !proto.Equal(x, &image.FileExtra{Id: desc.ID}) {
		if err := d.Out.Add(image.FilesExtra, "", x); err != nil {
			return nil, err
		}
	}
	return &fdinfo.FileEntry{Reg: e}, nil
}
