package memory

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/procfs"
	"ckpt/tracee"
)

// An ordinary user cannot open a mapped file that has no name and no
// descriptor: /proc/PID/map_files is root's, and no system call leads from a
// mapping to its file. What the container's processes map of it is all that
// anybody can still reach, so a copy of that takes its place. Semaphores of
// Python's multiprocessing are such files, and libraries that an upgrade has
// replaced.

// copyOf gives a file with what can be seen of the one behind m, with flags
// for opening it; the same file for every mapping of it.
func (s *saver) copyOf(d *kind.Dump, m *procfs.Map, flags int) (*os.File, error) {
	o := object{m.Dev, m.Ino}
	f := s.copies[o]
	if f == nil {
		var err error
		if f, err = makeCopy(d, m); err != nil {
			return nil, err
		}
		s.copies[o] = f
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/thread-self/fd/%d", f.Fd()), flags, 0)
	if err != nil {
		return nil, fmt.Errorf("open a copy of it: %w", err)
	}
	return os.NewFile(uintptr(fd), m.Path), nil
}

// refuseGuarded refuses guard pages in what an ordinary user can read through a
// mapping only: it may be that there are contents behind them.
func refuseGuarded(d *kind.Dump, p *kind.Proc, m *procfs.Map) error {
	if d.Privileged || !m.Shared || isSysV(m) || isSocket(m) || !isAnonShared(m) && (!m.Deleted || holder(d, m)) {
		return nil
	}
	pagemap, err := p.FS.OpenFile("pagemap", os.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		return err
	}
	defer pagemap.Close()
	found, _, err := kernel.GuardPages(pagemap, m.Start, m.End, make([]kernel.PageRegion, 1))
	if err != nil || found == 0 {
		return err
	}
	return failure.WithHint(failure.Unsupportedf("there are guard pages in shared memory (MADV_GUARD_INSTALL), and only root can look behind them"),
		"dump as root", "let the program take them away before the dump (MADV_GUARD_REMOVE)")
}

func makeCopy(d *kind.Dump, m *procfs.Map) (_ *os.File, err error) {
	fd, err := unix.MemfdCreate("copy", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("copy it (memfd_create): %w", err)
	}
	f := os.NewFile(uintptr(fd), m.Path)
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	for _, w := range windows(d, object{m.Dev, m.Ino}, func(m *procfs.Map) bool { return m.File() && !isAnonShared(m) }) {
		if err := copySeen(f, w); err != nil {
			return nil, fmt.Errorf("copy it: %w", err)
		}
	}
	return f, nil
}

// copySeen writes the pages of the file that a mapping shows. Those that a
// private mapping has as its own are not the file's; pages behind the end of
// the file cannot be read.
func copySeen(f *os.File, w window) error {
	pagemap, err := w.proc.FS.OpenFile("pagemap", os.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		return err
	}
	defer pagemap.Close()
	regions := make([]kernel.PageRegion, 4096)
	for at := w.m.Start; at < w.m.End; {
		var found int
		var next uint64
		if w.m.Shared {
			found, next, err = kernel.GuardPages(pagemap, at, w.m.End, regions)
		} else {
			found, next, err = kernel.OwnPages(pagemap, at, w.m.End, regions)
		}
		if err != nil {
			return err
		}
		for _, r := range regions[:found] {
			if w.m.Shared {
				return failure.Unsupportedf("there are guard pages in it (MADV_GUARD_INSTALL), and only root can look behind them")
			}
			if err := copyPages(f, w, at, r.Start); err != nil {
				return err
			}
			if err := reach(f, w.off+r.End-w.m.Start); err != nil {
				return err
			}
			at = r.End
		}
		if err := copyPages(f, w, at, next); err != nil {
			return err
		}
		at = next
	}
	return nil
}

// reach makes f as long as a page that a private mapping has as its own: it was
// of the file, too, and could not be written to again behind the end.
func reach(f *os.File, size uint64) error {
	st, err := f.Stat()
	if err != nil || uint64(st.Size()) >= size {
		return err
	}
	return f.Truncate(int64(size))
}

func copyPages(f *os.File, w window, start, end uint64) error {
	pid := int(w.proc.Lead().Host)
	buf := make([]byte, chunk)
	for at := start; at < end; {
		b := buf[:min(chunk, end-at)]
		err := tracee.ReadMemory(pid, at, b)
		if len(b) > page && (errors.Is(err, unix.EFAULT) || errors.Is(err, unix.EIO)) {
			b = b[:page] // the end of the file is near
			err = tracee.ReadMemory(pid, at, b)
		}
		if errors.Is(err, unix.EFAULT) || errors.Is(err, unix.EIO) {
			return nil
		}
		if err == nil {
			_, err = f.WriteAt(b, int64(w.off+at-w.m.Start))
		}
		if err != nil {
			return err
		}
		at += uint64(len(b))
	}
	return nil
}

// executed opens a mapped file that is somebody's executable, to which a link
// of /proc leads its owner.
func executed(d *kind.Dump, m *procfs.Map, flags int) *os.File {
	for _, p := range d.Procs {
		if p.Zombie {
			continue
		}
		if link, err := p.FS.Link("exe"); err != nil || strings.TrimSuffix(link, " (deleted)") != m.Path {
			continue
		}
		f, err := p.FS.OpenFile("exe", flags)
		if err != nil {
			continue
		}
		var st unix.Stat_t
		if unix.Fstat(int(f.Fd()), &st) == nil && st.Ino == m.Ino && sameDev(st.Dev, m.Dev) {
			return f
		}
		f.Close()
	}
	return nil
}

// otherName opens a deleted mapped file by another name that it has. How many it
// has nobody tells.
func otherName(d *kind.Dump, p *kind.Proc, m *procfs.Map, flags int) (*os.File, error) {
	if !strings.HasPrefix(m.Path, "/") {
		return nil, nil
	}
	name := d.SearchNear(func(name string, dev, ino uint64) bool {
		return ino == m.Ino && (dev == m.Dev || sameDev(dev, m.Dev) && path.Dir(name) == path.Dir(m.Path))
	})
	if name == "" && m.Shared { // what is written to it has to get there
		var err error
		if name, err = d.OtherName(d.Home, path.Dir(m.Path), m.Dev, m.Ino, 0); err != nil {
			return nil, err
		}
	}
	if name == "" {
		return nil, nil
	}
	f, err := p.FS.OpenFile("root"+name, flags)
	if err != nil {
		return nil, fmt.Errorf("open it as %s: %w", name, err)
	}
	return f, nil
}
