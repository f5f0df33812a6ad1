package watched

import (
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"ckpt/kind"
)

// mostFiles is how many files are looked at in search of one, which takes some
// 100 ms.
const mostFiles = 50000

// search looks for a file by its inode: in the working directories and beside
// the open files of the container, then from the roots of the mounts of its
// file system down, what is near first. Directories that somebody watches are
// not listed, if he would be told.
func (f *Finder) search(d *kind.Dump, roots []*os.File, w *File) (string, error) {
	if err := f.findNoisy(d); err != nil {
		return "", err
	}
	left := mostFiles
	seen := map[inode]bool{}
	for _, begin := range [][]string{near(d), names(d, roots)} {
		next := begin
		for len(next) > 0 && left > 0 {
			var below []string
			for _, dir := range next {
				found, dirs, n := f.list(d, dir, w, seen)
				if found != "" {
					return found, nil
				}
				below, left = append(below, dirs...), left-n
			}
			next = below
		}
	}
	return "", nil
}

// near are the working directories of the container's processes, and those of
// the files they have open.
func near(d *kind.Dump) (out []string) {
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
			if fd.Desc.Stat.Mode&unix.S_IFMT == unix.S_IFREG || fd.Desc.Stat.Mode&unix.S_IFMT == unix.S_IFDIR {
				add(path.Dir(fd.Desc.Link))
			}
		}
	}
	return out
}

// names are the paths in the container of open directories.
func names(d *kind.Dump, dirs []*os.File) (out []string) {
	for _, dir := range dirs {
		_, at, ok := strings.Cut(dir.Name(), "/root")
		if ok && at != "" {
			out = append(out, at)
		}
	}
	return out
}

// list looks at a directory and at all in it: whether one of them is the file,
// and which are directories of the same file system. n is how many it were.
func (f *Finder) list(d *kind.Dump, dir string, w *File, seen map[inode]bool) (found string, dirs []string, n int) {
	root := fmt.Sprintf("/proc/%d/root", d.Home)
	var st unix.Stat_t
	if unix.Lstat(root+dir, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR || inodeOf(&st).dev != w.Dev {
		return "", nil, 1
	}
	at := inodeOf(&st)
	if at.ino == w.Ino {
		return dir, nil, 1
	}
	if seen[at] || f.noisy[at] {
		return "", nil, 1
	}
	seen[at] = true
	all, err := os.ReadDir(root + dir)
	if err != nil {
		return "", nil, 1
	}
	for _, e := range all {
		name := path.Join(dir, e.Name())
		if unix.Lstat(root+name, &st) != nil || inodeOf(&st).dev != w.Dev {
			continue
		}
		if st.Ino == w.Ino {
			return name, nil, len(all)
		}
		if e.IsDir() {
			dirs = append(dirs, name)
		}
	}
	return "", dirs, len(all)
}

// findNoisy reads which directories the container's inotify instances watch
// for being listed.
func (f *Finder) findNoisy(d *kind.Dump) error {
	if f.noisy != nil {
		return nil
	}
	f.noisy = map[inode]bool{}
	const listing = unix.IN_OPEN | unix.IN_ACCESS | unix.IN_CLOSE_NOWRITE
	for _, p := range d.Procs {
		for _, fd := range p.Fds {
			for _, l := range fd.Desc.Info.Lines {
				var wd, mask uint32
				var at inode
				if _, err := fmt.Sscanf(l, "inotify wd:%x ino:%x sdev:%x mask:%x", &wd, &at.ino, &at.dev, &mask); err == nil && mask&listing != 0 {
					f.noisy[at] = true
				}
			}
		}
	}
	return nil
}
