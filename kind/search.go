package kind

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"ckpt/pidns"
	"ckpt/procfs"
)

// mostFiles is how many files are looked at in search of one, which takes some
// 100 ms.
const mostFiles = 50000

// search looks for a file of the container by what stat(2) tells of it. The
// kernel keeps no list of a file's names.
type search struct {
	root string // of the process that sees the file, in /proc
	is   func(name string, st *unix.Stat_t) bool
	devs []uint64 // directories of others are left alone; nil: none is
	left int      // files that may still be looked at
	// below are the directories in those that have been listed.
	below map[inode][]string
	// noisy are the directories that somebody in the container watches for
	// being listed, and so are not.
	noisy map[inode]bool
}

type inode struct{ dev, ino uint64 }

func inodeOf(st *unix.Stat_t) inode { return inode{st.Dev, st.Ino} }

// Search looks for a file of a file system by what is tells. Devs are the devices
// that stat(2) or mountinfo give for it and its directories: those of an overlay,
// or of a part of btrfs, are several. It looks beside the open and mapped files of the container and in its working
// directories, then below the directory from, which may be "", and those above
// it, then below all of these, at last below each mount of that file system. It
// gives up with "" when it has looked at 50,000 files. by is a process with the
// root of the mount namespace that the file was opened in; paths are as it sees
// them.
func (d *Dump) Search(by pidns.HostPID, from string, devs []uint64, is func(name string, st *unix.Stat_t) bool) (string, error) {
	points, err := mountPoints(by, devs)
	if err != nil {
		return "", err
	}
	s := &search{root: fmt.Sprintf("/proc/%d/root", by), is: is, devs: devs, left: mostFiles, below: map[inode][]string{}, noisy: d.noisy()}
	near := d.near()
	if from != "" {
		near = append([]string{from}, near...)
	}
	if found := s.beside(near); found != "" {
		return found, nil
	}
	var begin [][]string
	for dir := from; strings.HasPrefix(dir, "/") && dir != "/"; dir = path.Dir(dir) {
		begin = append(begin, []string{dir})
	}
	for _, dirs := range append(begin, near, points) {
		if found := s.under(dirs); found != "" {
			return found, nil
		}
	}
	return "", nil
}

// SearchNear is Search in the first of these places only, on any file system.
func (d *Dump) SearchNear(is func(name string, st *unix.Stat_t) bool) string {
	s := &search{root: fmt.Sprintf("/proc/%d/root", d.Home), is: is, left: mostFiles, below: map[inode][]string{}, noisy: d.noisy()}
	return s.beside(d.near())
}

func (s *search) beside(dirs []string) string {
	for _, dir := range dirs {
		if found, _ := s.list(dir, true); found != "" {
			return found
		}
	}
	return ""
}

// under goes down from dirs, all of one depth before the next.
func (s *search) under(dirs []string) string {
	for len(dirs) > 0 && s.left > 0 {
		var next []string
		for _, dir := range dirs {
			found, below := s.list(dir, false)
			if found != "" {
				return found
			}
			next = append(next, below...)
		}
		dirs = next
	}
	return ""
}

// list looks at a directory and at all in it: whether one of them is the file,
// and which are directories, which are given once. keep: they are for whoever
// comes next.
func (s *search) list(dir string, keep bool) (found string, below []string) {
	s.left--
	var st unix.Stat_t
	if s.left < 0 || unix.Lstat(s.root+dir, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR || s.devs != nil && !slices.Contains(s.devs, st.Dev) {
		return "", nil
	}
	if s.is(dir, &st) {
		return dir, nil
	}
	at := inodeOf(&st)
	if below, known := s.below[at]; known || s.noisy[at] {
		if !keep {
			s.below[at] = nil
		}
		return "", below
	}
	s.below[at] = nil
	f, err := os.Open(s.root + dir)
	if err != nil {
		return "", nil
	}
	defer f.Close()
	all, err := f.ReadDir(-1)
	if err != nil {
		return "", nil
	}
	s.left -= len(all)
	for _, e := range all {
		name := path.Join(dir, e.Name())
		if unix.Fstatat(int(f.Fd()), e.Name(), &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
			continue
		}
		if s.is(name, &st) {
			return name, nil
		}
		if e.IsDir() {
			below = append(below, name)
		}
	}
	if keep {
		s.below[at] = below
	}
	return "", below
}

// near are the working directories of the container's processes, and those of
// the files they have open, or had mapped when these were deleted.
func (d *Dump) near() (out []string) {
	seen := map[string]bool{}
	add := func(p string) {
		if strings.HasPrefix(p, "/") && !seen[p] {
			seen[p] = true
			out = append(out, p)
		}
	}
	for _, p := range d.Procs {
		if p.FS == nil {
			continue
		}
		if cwd, err := p.FS.Link("cwd"); err == nil {
			add(cwd)
		}
		for _, fd := range p.Fds {
			if mode := fd.Desc.Stat.Mode & unix.S_IFMT; mode == unix.S_IFREG || mode == unix.S_IFDIR {
				add(path.Dir(fd.Desc.Link))
			}
		}
		for i := range p.Maps {
			if p.Maps[i].Deleted {
				add(path.Dir(p.Maps[i].Path))
			}
		}
	}
	return out
}

// mountPoints are those of a file system, as the process by sees them.
func mountPoints(by pidns.HostPID, devs []uint64) (out []string, err error) {
	mounts, err := procfs.Mounts(int(by))
	for _, m := range mounts {
		if slices.Contains(devs, m.Dev) {
			out = append(out, m.Point)
		}
	}
	return out, err
}

// noisy reads which directories the container's inotify instances watch for
// being listed.
func (d *Dump) noisy() map[inode]bool {
	noisy := map[inode]bool{}
	const listing = unix.IN_OPEN | unix.IN_ACCESS | unix.IN_CLOSE_NOWRITE
	for _, p := range d.Procs {
		for _, fd := range p.Fds {
			for _, l := range fd.Desc.Info.Lines {
				var wd, dev, mask uint32
				var ino uint64
				if _, err := fmt.Sscanf(l, "inotify wd:%x ino:%x sdev:%x mask:%x", &wd, &ino, &dev, &mask); err == nil && mask&listing != 0 {
					noisy[inode{unix.Mkdev(dev>>20, dev&(1<<20-1)), ino}] = true
				}
			}
		}
	}
	return noisy
}
