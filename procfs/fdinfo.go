package procfs

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// FDInfo is /proc/PID/fdinfo/N.
type FDInfo struct {
	Pos   int64
	Flags int // open(2) flags, O_CLOEXEC among them when the descriptor has it
	MntID int
	Ino   uint64   // 5.14 and later
	Lines []string // the lines a kind of file adds, and those of locks
}

// FDInfo reads /proc/PID/fdinfo/fd.
func (p *Proc) FDInfo(fd int) (*FDInfo, error) {
	rel := "fdinfo/" + strconv.Itoa(fd)
	b, err := p.read(rel, make([]byte, 0, 1024))
	if err != nil {
		return nil, err
	}
	i, err := parseFDInfo(b)
	return i, p.parseErr(rel, err)
}

// FDs lists the open descriptors, ascending. A zombie has none.
func (p *Proc) FDs() ([]int, error) { return p.list("fd") }

// FDLink is readlink(2) of /proc/PID/fd/fd: "/path", "pipe:[12]", "anon_inode:[eventfd]".
func (p *Proc) FDLink(fd int) (string, error) { return p.Link("fd/" + strconv.Itoa(fd)) }

// OpenFD opens the file behind a descriptor anew (a new open file
// description, unless flags hold O_PATH). It does not work for sockets.
func (p *Proc) OpenFD(fd, flags int) (*os.File, error) {
	return p.OpenFile("fd/"+strconv.Itoa(fd), flags)
}

// FDStat is stat(2) of the file behind a descriptor.
func (p *Proc) FDStat(fd int) (unix.Stat_t, error) {
	var st unix.Stat_t
	rel := "fd/" + strconv.Itoa(fd)
	if err := unix.Fstatat(p.at(rel), rel, &st, 0); err != nil {
		return st, p.wrap("stat", rel, err)
	}
	return st, nil
}

// parseFDInfo: the common fields come first, whatever the kind of file adds
// comes after and may use the same names again.
func parseFDInfo(b []byte) (*FDInfo, error) {
	f := &FDInfo{MntID: -1}
	seen := 0
	for len(b) > 0 {
		l, rest := line(b)
		key, v, ok := bytes.Cut(l, []byte(":"))
		if !ok {
			break
		}
		bit, err := f.set(key, v)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		if bit == 0 || seen&bit != 0 {
			break
		}
		seen |= bit
		b = rest
	}
	if seen&3 != 3 {
		return nil, fmt.Errorf("no position and flags")
	}
	if len(b) > 0 {
		f.Lines = strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	}
	return f, nil
}

func (f *FDInfo) set(key, v []byte) (bit int, err error) {
	w, _ := next(v)
	switch string(key) {
	case "pos":
		f.Pos, err = intOf(w)
		return 1, err
	case "flags":
		n, err := uintOf(w, 8)
		f.Flags = int(n)
		return 2, err
	case "mnt_id":
		n, err := intOf(w)
		f.MntID = int(n)
		return 4, err
	case "ino":
		f.Ino, err = uintOf(w, 10)
		return 8, err
	}
	return 0, nil
}

// list gives the numbers that are names in a directory, ascending.
func (p *Proc) list(rel string) ([]int, error) {
	dir, err := openat(p.at(rel), rel, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC)
	if err != nil {
		return nil, p.wrap("open", rel, err)
	}
	defer unix.Close(dir)
	var out []int
	buf := make([]byte, 8192)
	var names []string
	for {
		n, err := unix.ReadDirent(dir, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, p.wrap("read", rel, err)
		}
		if n == 0 {
			break
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names[:0])
		for _, name := range names {
			if v, err := strconv.Atoi(name); err == nil {
				out = append(out, v)
			}
		}
	}
	slices.Sort(out)
	return out, nil
}
