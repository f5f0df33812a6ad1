// Package eventfd saves eventfd(2) counters.
//
// What the kernel shows: fdinfo has eventfd-count, and eventfd-semaphore
// since Linux 6.5. On an older kernel two reads of the stopped object tell
// it, and the counter is put back.
//
// What is saved: the counter, EFD_SEMAPHORE, status flags, owner.
//
// What is lost: see Limits.
//
// Needs: nothing beyond eventfd2(2).
package eventfd

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"strconv"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/eventfd"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
)

const link = "anon_inode:[eventfd]"

// Kind is eventfd(2).
func Kind() kind.File {
	return kind.File{
		Name:    "eventfd",
		Saves:   "counter, EFD_SEMAPHORE, flags, owner",
		Type:    fdinfo.FdTypes_EVENTFD,
		Owns:    func(d *kind.Desc) bool { return d.Link == link && !d.OnlyPath() },
		Refuse:  refuse,
		Dump:    dump,
		Restore: restore,
		Limits:  "that a control group of version 1 is to signal it (cgroup.event_control) is not seen, and lost",
	}
}

func refuse(_ *kind.Dump, d *kind.Desc) error {
	_, err := count(d)
	return err
}

// count is the counter. Only an overflow by the kernel itself (AIO) reaches
// the greatest value, which write(2) cannot set.
func count(d *kind.Desc) (uint64, error) {
	s, _ := d.InfoLine("eventfd-count")
	n, err := strconv.ParseUint(s, 16, 64)
	if err != nil {
		return 0, fmt.Errorf("read its counter from fdinfo: %w", err)
	}
	if n == math.MaxUint64 {
		return 0, failure.WithHint(failure.Unsupportedf("its counter has overflowed"), "let the program read it before the dump")
	}
	return n, nil
}

func dump(d *kind.Dump, desc *kind.Desc) (*fdinfo.FileEntry, error) {
	n, err := count(desc)
	if err != nil {
		return nil, err
	}
	owner, err := d.Owner(desc)
	if err != nil {
		return nil, err
	}
	sem, err := semaphore(desc, n)
	if err != nil {
		return nil, err
	}
	if sem {
		if err := d.Out.Add(image.FilesExtra, "", &image.FileExtra{Id: desc.ID, Semaphore: true}); err != nil {
			return nil, err
		}
	}
	return &fdinfo.FileEntry{Efd: &eventfd.EventfdFileEntry{
		Id: proto.Uint32(desc.ID), Flags: proto.Uint32(desc.StatusFlags()), Fown: owner, Counter: proto.Uint64(n),
	}}, nil
}

func semaphore(d *kind.Desc, n uint64) (bool, error) {
	if s, ok := d.InfoLine("eventfd-semaphore"); ok {
		return s == "1", nil
	}
	return probe(int(d.File.Fd()), n)
}

// probe tells EFD_SEMAPHORE by reading: such a read takes 1, any other takes
// all. It leaves the counter at n.
// Preconditions: nobody else reads or writes fd; its counter is n.
func probe(fd int, n uint64) (bool, error) {
	have := max(n, 2) // with 2 the two differ, and no read can block
	if have > n {
		if err := add(fd, have-n); err != nil {
			return false, fmt.Errorf("find out whether it is a semaphore: %w", err)
		}
	}
	sem := false
	for {
		got, err := take(fd)
		if err != nil {
			return false, fmt.Errorf("find out whether it is a semaphore: %w", err)
		}
		sem = sem || got < have
		have -= got
		if have <= n {
			break
		}
	}
	if have < n {
		if err := add(fd, n-have); err != nil {
			return false, fmt.Errorf("put its counter back to %d: %w", n, err)
		}
	}
	return sem, nil
}

func take(fd int) (uint64, error) {
	var b [8]byte
	if _, err := unix.Read(fd, b[:]); err != nil {
		return 0, err
	}
	return binary.NativeEndian.Uint64(b[:]), nil
}

func add(fd int, n uint64) error {
	_, err := unix.Write(fd, binary.NativeEndian.AppendUint64(nil, n))
	return err
}

func restore(r *kind.Restore, e *fdinfo.FileEntry) (*os.File, error) {
	efd := e.GetEfd()
	if efd == nil {
		return nil, failure.Damagedf("an eventfd without its entry")
	}
	flags := unix.EFD_CLOEXEC
	if r.Extras[e.GetId()].GetSemaphore() {
		flags |= unix.EFD_SEMAPHORE
	}
	fd, err := unix.Eventfd(0, flags)
	if err != nil {
		return nil, fmt.Errorf("make it (eventfd2): %w", err)
	}
	// Not through eventfd2's argument, which has 32 bits.
	if efd.GetCounter() != 0 {
		if err := add(fd, efd.GetCounter()); err != nil {
			unix.Close(fd)
			return nil, fmt.Errorf("set its counter to %d: %w", efd.GetCounter(), err)
		}
	}
	f, err := kind.NewFile(fd, efd.GetFlags(), link)
	if err != nil {
		return nil, err
	}
	if err := r.RestoreOwner(f, efd.GetFown()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
