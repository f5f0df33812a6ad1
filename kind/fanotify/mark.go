package fanotify

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/fsnotify"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/kind"
	"ckpt/kind/watched"
	"ckpt/procfs"
)

// FAN_OPEN_PERM, FAN_ACCESS_PERM, FAN_OPEN_EXEC_PERM, FAN_PRE_ACCESS.
const permission = 0x10000 | 0x20000 | 0x40000 | 0x100000

// Flags of a mark that fdinfo shows (FAN_MARK_*), and how to ask for what.
const (
	survives  = 0x40  // FAN_MARK_IGNORED_SURV_MODIFY
	evictable = 0x200 // FAN_MARK_EVICTABLE
	ignore    = 0x400 // FAN_MARK_IGNORE, Linux 6.0: the ignored mask has flags of its own
	ignored   = 0x20  // FAN_MARK_IGNORED_MASK, the older way
)

type sort int

const (
	onFile sort = iota
	onMount
	onFilesystem
)

// group is what fdinfo tells.
type group struct {
	flags, eventFlags uint32
	marks             []mark // those on files first, each sort in the order they were made
}

type mark struct {
	sort                 sort
	flags, mask, ignored uint32
	file                 watched.File
	mount                int    // its id
	dev                  uint32 // of a file system, as the kernel encodes it
	place                watched.Place
}

// wide: it has a mark on more than files.
func (g *group) wide() bool {
	return slices.ContainsFunc(g.marks, func(m mark) bool { return m.sort != onFile })
}

// parse reads the lines of fdinfo, which has the latest mark first. Numbers are
// hexadecimal.
func parse(lines []string) (*group, error) {
	g := &group{}
	for _, l := range lines {
		rest, ok := strings.CutPrefix(l, "fanotify ")
		if !ok {
			continue
		}
		if _, err := fmt.Sscanf(rest, "flags:%x event-flags:%x", &g.flags, &g.eventFlags); err == nil {
			continue
		}
		m, err := parseMark(rest)
		if err != nil {
			return nil, fmt.Errorf("read fdinfo %q: %w", l, err)
		}
		g.marks = append(g.marks, m)
	}
	slices.Reverse(g.marks)
	slices.SortStableFunc(g.marks, func(a, b mark) int { return int(a.sort - b.sort) })
	return g, nil
}

func parseMark(s string) (m mark, err error) {
	switch {
	case strings.HasPrefix(s, "ino:"):
		_, err = fmt.Sscanf(s, "ino:%x sdev:%x mflags:%x mask:%x ignored_mask:%x", &m.file.Ino, &m.file.Dev, &m.flags, &m.mask, &m.ignored)
		if err == nil {
			_, handle, _ := strings.Cut(s, " fhandle")
			err = m.file.Parse("fhandle" + handle)
		}
	case strings.HasPrefix(s, "mnt_id:"):
		m.sort = onMount
		_, err = fmt.Sscanf(s, "mnt_id:%x mflags:%x mask:%x ignored_mask:%x", &m.mount, &m.flags, &m.mask, &m.ignored)
	case strings.HasPrefix(s, "sdev:"):
		m.sort = onFilesystem
		_, err = fmt.Sscanf(s, "sdev:%x mflags:%x mask:%x ignored_mask:%x", &m.dev, &m.flags, &m.mask, &m.ignored)
	default:
		name, _, _ := strings.Cut(s, ":")
		err = failure.WithHint(failure.Unsupportedf("fanotify: a mark of sort %q, which ckpt does not know", name), "remove the mark before the dump")
	}
	return m, err
}

// findMounts gives marks on mounts and file systems a mount point.
func (g *group) findMounts(d *kind.Dump) error {
	if !g.wide() {
		return nil
	}
	home, err := procfs.Open(int(d.Home))
	if err != nil {
		return err
	}
	defer home.Close()
	mounts, err := home.MountInfo()
	if err != nil {
		return err
	}
	for i := range g.marks {
		m := &g.marks[i]
		if m.sort == onFile {
			continue
		}
		at := slices.IndexFunc(mounts, func(o procfs.Mount) bool {
			if m.sort == onMount {
				return o.ID == m.mount
			}
			return unix.Major(o.Dev)<<20|unix.Minor(o.Dev) == m.dev
		})
		if at < 0 {
			return failure.WithHint(failure.Unsupportedf("fanotify: a mark on a mount that the container does not see"), "remove the mark before the dump")
		}
		m.mount, m.dev = mounts[at].ID, unix.Major(mounts[at].Dev)<<20|unix.Minor(mounts[at].Dev)
		m.place.Path = mounts[at].Point
	}
	return nil
}

func (m *mark) entry(id uint32) *fsnotify.FanotifyMarkEntry {
	e := &fsnotify.FanotifyMarkEntry{Id: proto.Uint32(id), Mflags: proto.Uint32(m.flags), Mask: proto.Uint32(m.mask), IgnoredMask: proto.Uint32(m.ignored)}
	if m.sort == onFile {
		e.Type, e.SDev = fsnotify.MarkType_INODE.Enum(), proto.Uint32(m.file.Dev)
		e.Ie = &fsnotify.FanotifyInodeMarkEntry{IIno: proto.Uint64(m.file.Ino), FHandle: m.file.Entry(m.place.Path)}
		return e
	}
	e.Type, e.SDev = fsnotify.MarkType_MOUNT.Enum(), proto.Uint32(m.dev)
	e.Me = &fsnotify.FanotifyMountMarkEntry{MntId: proto.Uint32(uint32(m.mount)), Path: proto.String(m.place.Path)}
	return e
}

func move(e *fdinfo.FileEntry, to func(string) string) error {
	for _, m := range e.GetFfy().GetMark() {
		watched.Move(m.GetIe().GetFHandle(), to)
		if m.GetMe() != nil {
			m.Me.Path = proto.String(to(m.GetMe().GetPath()))
		}
	}
	return nil
}

// addAll adds the marks when all files are made, so that the group is not told
// of that; those on mounts and file systems last.
func addAll(r *kind.Restore, e *fdinfo.FileEntry, f *os.File) error {
	x := r.Extras[e.GetId()]
	for i, m := range e.GetFfy().GetMark() {
		place, how := watched.Place{Path: m.GetIe().GetFHandle().GetPath()}, 0
		if i < len(x.GetWatchedFiles()) {
			place.Open = x.GetWatchedFiles()[i]
		}
		if m.GetType() == fsnotify.MarkType_MOUNT {
			place.Path, how = m.GetMe().GetPath(), unix.FAN_MARK_MOUNT
			if slices.Contains(x.GetFilesystemMarks(), uint32(i)) {
				how = unix.FAN_MARK_FILESYSTEM
			}
		}
		if place == (watched.Place{}) {
			return failure.Unsupportedf("mark %d: the image has no path for it, only a file handle", i+1)
		}
		err := place.With(r, func(path string, follow bool) error {
			if !follow {
				how |= unix.FAN_MARK_DONT_FOLLOW
			}
			return add(int(f.Fd()), m, uint(how), path)
		})
		if err != nil {
			return fmt.Errorf("mark %s: %w", place.Path, err)
		}
	}
	return drain(int(f.Fd()))
}

// add makes one mark: what it tells of, and what it does not.
func add(fd int, m *fsnotify.FanotifyMarkEntry, how uint, path string) error {
	how |= unix.FAN_MARK_ADD | uint(m.GetMflags())&evictable
	if m.GetMask() != 0 {
		if err := unix.FanotifyMark(fd, how, uint64(m.GetMask()), unix.AT_FDCWD, path); err != nil {
			return fmt.Errorf("fanotify_mark: %w", err)
		}
	}
	if m.GetIgnoredMask() == 0 {
		return nil
	}
	how |= uint(m.GetMflags()) & survives
	if m.GetMflags()&ignore != 0 {
		how |= ignore
	} else {
		how |= ignored
	}
	if err := unix.FanotifyMark(fd, how, uint64(m.GetIgnoredMask()), unix.AT_FDCWD, path); err != nil {
		return fmt.Errorf("fanotify_mark, to ignore: %w", err)
	}
	return nil
}

// drain takes out what the marks have told of meanwhile, with the descriptors
// that come with it.
func drain(fd int) (err error) {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags|unix.O_NONBLOCK)
	}
	if err != nil {
		return fmt.Errorf("set its flags: %w", err)
	}
	defer func() {
		_, errFlags := unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags)
		err = errors.Join(err, errFlags)
	}()
	const length, descriptor, header = 0, 16, 24 // offsets in fanotify_event_metadata, and its size
	buf := make([]byte, 1<<16)
	for {
		n, err := unix.Read(fd, buf)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("read events of its own making: %w", err)
		}
		for b := buf[:n]; len(b) >= header; {
			if got := int32(binary.NativeEndian.Uint32(b[descriptor:])); got >= 0 {
				unix.Close(int(got))
			}
			b = b[min(len(b), max(header, int(binary.NativeEndian.Uint32(b[length:])))):]
		}
	}
}
