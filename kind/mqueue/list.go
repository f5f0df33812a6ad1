package mqueue

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/tracee"
)

const fsconfigCreate = 6 // FSCONFIG_CMD_CREATE (include/uapi/linux/mount.h)

// fileSystem is the namespace's, as ckpt's bare child and ckpt have it open.
type fileSystem struct {
	there uint64
	dir   *os.File
}

// call runs one call in ckpt's bare child.
func call(d *kind.Dump, what string, nr uintptr, args func(*tracee.Script) []uint64) (result uint64, err error) {
	var step tracee.Step
	err = d.Inside(func(s *tracee.Script) error {
		step = s.Try(nr, args(s)...)
		return nil
	}, func(s *tracee.Script) error {
		result, err = s.Result(step)
		return err
	})
	if err != nil {
		err = fmt.Errorf("%s: %w", what, err)
	}
	return result, err
}

func numbers(n ...uint64) func(*tracee.Script) []uint64 {
	return func(*tracee.Script) []uint64 { return n }
}

// openFileSystem mounts the namespace's file system where nobody sees it; nil:
// the kernel has none.
func openFileSystem(d *kind.Dump) (*fileSystem, error) {
	fs, err := call(d, "open the mqueue file system", unix.SYS_FSOPEN, func(s *tracee.Script) []uint64 { return []uint64{s.Str("mqueue"), 0} })
	if errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if _, err := call(d, "open the mqueue file system", unix.SYS_FSCONFIG, numbers(fs, fsconfigCreate, 0, 0, 0)); err != nil {
		return nil, err
	}
	mount, err := call(d, "mount the mqueue file system", unix.SYS_FSMOUNT, numbers(fs, 0, 0))
	if err != nil {
		return nil, err
	}
	// That is an O_PATH descriptor.
	there, err := call(d, "open the mqueue file system's directory", unix.SYS_OPENAT, func(s *tracee.Script) []uint64 {
		return []uint64{mount, s.Str("."), unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC}
	})
	if err != nil {
		return nil, err
	}
	for _, fd := range []uint64{fs, mount} {
		if _, err := call(d, "close the mqueue file system", unix.SYS_CLOSE, numbers(fd)); err != nil {
			return nil, err
		}
	}
	dir, err := take(d, there, "mqueue")
	return &fileSystem{there, dir}, err
}

// take brings a descriptor of ckpt's bare child into ckpt.
func take(d *kind.Dump, fd uint64, name string) (*os.File, error) {
	pidfd, err := unix.PidfdOpen(int(d.Hand), 0)
	if err != nil {
		return nil, fmt.Errorf("open a pidfd of ckpt's bare child: %w", err)
	}
	defer unix.Close(pidfd)
	n, err := unix.PidfdGetfd(pidfd, int(fd), 0)
	if err != nil {
		return nil, fmt.Errorf("take %s from ckpt's bare child (pidfd_getfd): %w", name, err)
	}
	return kind.NewFile(n, unix.O_NONBLOCK, name)
}

// mount finds out which file system is the container's.
func (w *world) mount(d *kind.Dump) error {
	fs, err := openFileSystem(d)
	if fs == nil || err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(fs.dir.Fd()), &st); err != nil {
		return fmt.Errorf("stat the mqueue file system: %w", err)
	}
	w.fs, w.dev = fs, st.Dev
	return nil
}

// find opens all queues: those with a name, and those that only descriptors
// hold.
func (w *world) find(d *kind.Dump) error {
	names, err := w.fs.dir.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("list the message queues: %w", err)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := w.add(d, &queue{e: &image.MessageQueue{Name: []byte(name)}}, w.fs.there, name); err != nil {
			return err
		}
	}
	for _, desc := range w.descs {
		if desc.Stat.Dev != w.dev || w.byInode(desc.Stat.Ino) != nil || desc.FD < 0 {
			continue
		}
		q := &queue{e: &image.MessageQueue{Name: []byte(nameOf(desc)), Unlinked: true}}
		if err := w.add(d, q, tracee.AtCwd, fmt.Sprintf("/proc/%d/fd/%d", desc.Proc.VPID, desc.FD)); err != nil {
			return err
		}
	}
	return nil
}

// add opens a queue. The bare child may: it has the rights of who owns the
// namespace.
func (w *world) add(d *kind.Dump, q *queue, at uint64, path string) (err error) {
	q.there, err = call(d, "open message queue "+q.String(), unix.SYS_OPENAT, func(s *tracee.Script) []uint64 {
		return []uint64{at, s.Str(path), unix.O_RDWR | unix.O_NONBLOCK | unix.O_CLOEXEC}
	})
	if err != nil {
		return err
	}
	if q.file, err = take(d, q.there, q.String()); err != nil {
		return err
	}
	if err := q.look(d); err != nil {
		return fmt.Errorf("message queue %s: %w", q, err)
	}
	q.e.Id = uint32(len(w.queues) + 1)
	w.queues = append(w.queues, q)
	return nil
}

// refuseInner refuses queues in an ipc namespace made inside, as the other ipc
// objects are.
func refuseInner(d *kind.Dump) error {
	if d.Namespace == 0 {
		return nil // Ask has saved them
	}
	fs, err := openFileSystem(d)
	if fs == nil || err != nil {
		return err
	}
	defer fs.dir.Close()
	names, err := fs.dir.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("list the message queues: %w", err)
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	return failure.WithHint(failure.Unsupportedf("those in an ipc namespace made inside the container are not carried yet: /%s", strings.Join(names, ", /")),
		"remove them with mq_unlink(3), or start the program without an ipc namespace of its own")
}
