package kind

import (
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"ckpt/pidns"
	"ckpt/procfs"
)

// mostFiles is how many files of one file system are looked at in search of
// some, which takes some 100 ms.
const mostFiles = 50000

// search looks for files of one file system by their inodes, since the kernel
// keeps no list of a file's names. It remembers what it has come by.
type search struct {
	root   string           // of the process that sees the files, in /proc
	devs   []uint64         // directories of others are left alone; nil: none is
	left   int              // files that may still be looked at
	name   map[inode]string // of each file
	listed map[inode]bool
	// below are the directories in those that have been listed, so far as they
	// have not been gone into.
	below map[inode][]string
	// noisy are the directories that somebody in the container watches for
	// being listed, and so are not.
	noisy map[inode]bool
}

type inode struct{ dev, ino uint64 }

func inodeOf(st *unix.Stat_t) inode { return inode{st.Dev, st.Ino} }

// Search looks for a name of the file that stat(2) gives dev and ino for, and
// gives "" where it has found none. Devs are the devices that stat(2) and
// mountinfo give for its file system: those of an overlay, or of a part of btrfs,
// are several. It looks beside the open files of the container and in its
// working directories, then below the directory from, which may be "", and those
// above it, then below all of these, at last below each mount of that file
// system, at no more than 50,000 files in all searches of one. by is a process
// with the root of the mount namespace that the file was opened in; paths are as
// it sees them.
func (d *Dump) Search(by pidns.HostPID, from string, dev, ino uint64, devs ...uint64) (string, error) {
	devs = append(devs, dev)
	s := d.searches[searched{by, dev}]
	if s == nil {
		s = d.newSearch(by, devs)
		if d.searches == nil {
			d.searches = map[searched]*search{}
		}
		d.searches[searched{by, dev}] = s
	}
	points, err := mountPoints(by, devs)
	if err != nil {
		return "", err
	}
	near := d.near()
	if from != "" {
		near = append([]string{from}, near...)
	}
	want := inode{dev, ino}
	if s.beside(near, want) {
		return s.name[want], nil
	}
	var begin [][]string
	for dir := from; strings.HasPrefix(dir, "/") && dir != "/"; dir = path.Dir(dir) {
		begin = append(begin, []string{dir})
	}
	for _, dirs := range append(begin, near, points) {
		if s.under(dirs, want) {
			break
		}
	}
	return s.name[want], nil
}

// searched is what one search is of: a file system, as a process sees it.
type searched struct {
	by  pidns.HostPID
	dev uint64
}

// SearchNear is Search in the first of these places only, on any file system,
// for a name that is of what is sought.
func (d *Dump) SearchNear(is func(name string, dev, ino uint64) bool) string {
	s := d.newSearch(d.Home, nil)
	s.beside(d.near(), inode{})
	for at, name := range s.name {
		if is(name, at.dev, at.ino) {
			return name
		}
	}
	return ""
}

func (d *Dump) newSearch(by pidns.HostPID, devs []uint64) *search {
	return &search{root: fmt.Sprintf("/proc/%d/root", by), devs: devs, left: mostFiles, name: map[inode]string{}, listed: map[inode]bool{}, below: map[inode][]string{}, noisy: d.noisy()}
}

func (s *search) has(want inode) bool { _, ok := s.name[want]; return ok }

func (s *search) note(at inode, name string) {
	if !s.has(at) {
		s.name[at] = name
	}
}

func (s *search) beside(dirs []string, want inode) bool {
	for _, dir := range dirs {
		if s.has(want) {
			break
		}
		s.list(dir)
	}
	return s.has(want)
}

// under goes down from dirs, all of one depth before the next.
func (s *search) under(dirs []string, want inode) bool {
	gone := map[inode][]string{} // into
	for len(dirs) > 0 && s.left > 0 {
		var next []string
		for _, dir := range dirs {
			at := s.list(dir)
			if s.has(want) {
				maps.Copy(s.below, gone) // not into all of these
				return true
			}
			if below := s.below[at]; len(below) > 0 {
				next = append(next, below...)
				gone[at] = below
				delete(s.below, at)
			}
		}
		dirs = next
	}
	return false
}

// list looks at a directory and at all in it, once. It gives the directory's
// inode.
func (s *search) list(dir string) inode {
	s.left--
	var st unix.Stat_t
	if s.left < 0 || unix.Lstat(s.root+dir, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR || s.devs != nil && !slices.Contains(s.devs, st.Dev) {
		return inode{}
	}
	at := inodeOf(&st)
	s.note(at, dir)
	if s.listed[at] || s.noisy[at] {
		return at
	}
	s.listed[at] = true
	f, err := os.Open(s.root + dir)
	if err != nil {
		return at
	}
	defer f.Close()
	all, err := f.ReadDir(-1)
	if err != nil {
		return at
	}
	s.left -= len(all)
	for _, e := range all {
		name := path.Join(dir, e.Name())
		if unix.Fstatat(int(f.Fd()), e.Name(), &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
			continue
		}
		s.note(inodeOf(&st), name)
		if e.IsDir() {
			s.below[at] = append(s.below[at], name)
		}
	}
	return at
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
