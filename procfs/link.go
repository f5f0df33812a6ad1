package procfs

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"ckpt/failure"
)

// Link is readlink(2) of a file of the directory: "exe", "cwd", "root",
// "ns/pid", "map_files/…". A deleted file reads as "/path (deleted)". A path
// that is longer than a page is not shown (d_path()): failure.ErrUnsupported.
func (p *Proc) Link(rel string) (string, error) {
	for size := 256; ; size *= 4 {
		b := make([]byte, size)
		n, err := unix.Readlinkat(p.at(rel), rel, b)
		if errors.Is(err, unix.ENAMETOOLONG) {
			return "", failure.WithHint(failure.Unsupportedf("its path is longer than %d bytes, and the kernel does not show it", unix.PathMax-1),
				"have the program use a file in a directory less deep")
		}
		if err != nil {
			return "", p.wrap("read link", rel, err)
		}
		if n < size {
			return string(b[:n]), nil
		}
	}
}

// OpenLink opens what a link of the directory leads to, the very object and
// not a path. flags as of open(2); O_PATH is enough for fstat and fchdir.
func (p *Proc) OpenLink(rel string, flags int) (*os.File, error) { return p.OpenFile(rel, flags) }

// StatLink is stat(2) of what a link of the directory leads to. Of "ns/…" the
// device and inode identify the namespace (namespaces(7)).
func (p *Proc) StatLink(rel string) (unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(p.at(rel), rel, &st, 0); err != nil {
		return st, p.wrap("stat", rel, err)
	}
	return st, nil
}
