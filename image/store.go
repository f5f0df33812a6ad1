package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"ckpt/failure"
)

// store is where the files of an image are: a directory, or a stream in one file.
type store interface {
	// path is how the user knows it.
	path() string
	// list gives the sizes of all files, by name, in bytes, and the name of one
	// that is no regular file.
	list() (sizes map[string]int64, odd string, err error)
	// open opens a file that list has given.
	open(name string) (*stored, error)
	close() error
}

// stored is a file of an image: a part of one of the file system's, or all of it.
type stored struct {
	file     *os.File
	at, size int64           // where it begins in file, in bytes, and how long it is
	shared   bool            // file is open for others, too
	ctx      context.Context // ends the reading; nil: nothing does
}

// ReadAt implements io.ReaderAt.
func (s *stored) ReadAt(b []byte, off int64) (int, error) {
	if s.ctx != nil && s.ctx.Err() != nil {
		return 0, s.ctx.Err()
	}
	if off >= s.size {
		return 0, io.EOF
	}
	short := int64(len(b)) > s.size-off
	if short {
		b = b[:s.size-off]
	}
	n, err := s.file.ReadAt(b, s.at+off)
	switch {
	case err == nil && short:
		err = io.EOF
	case err != nil && err != io.EOF:
		err = &readError{unread(fmt.Errorf("read %s: %w", s.file.Name(), failure.WithoutPath(err)))}
	}
	return n, err
}

// readError is that of a file which could not be read, whatever is in it. It says
// which.
type readError struct{ error }

func (e *readError) Unwrap() error { return e.error }

// unread adds to an error of the file system what to do about it: an image is its
// maker's alone (mode 0700), and disks fail.
func unread(err error) error {
	switch {
	case errors.Is(err, unix.EACCES):
		return failure.WithHint(err, "an image can be read by who made it: run ckpt as that user, or as root")
	case diskFails(err):
		return failure.WithHint(err, "its disk fails, or cannot be reached any more (dmesg tells more): take another copy of the image")
	}
	return err
}

func (s *stored) Close() error {
	if s.shared {
		return nil
	}
	return s.file.Close()
}

// diskFails tells whether a device, or the server of a network file system, does.
func diskFails(err error) bool { return errors.Is(err, unix.EIO) || errors.Is(err, unix.ESTALE) }

// directory is an image as CRIU has it. It is held open and no path is named
// again, so it can be read when the thread's mount namespace has changed.
type directory struct {
	dir *os.File
	all map[string]int64 // list
}

func (d *directory) path() string { return d.dir.Name() }

func (d *directory) close() error { return d.dir.Close() }

func (d *directory) list() (sizes map[string]int64, odd string, err error) {
	d.all = map[string]int64{}
	odd, err = d.listIn(d.dir, "")
	return d.all, odd, err
}

// listIn notes the files in a directory of the image, and, once, in those of the
// levels.
func (d *directory) listIn(dir *os.File, in string) (odd string, err error) {
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return "", unread(fmt.Errorf("read the directory: %w", failure.WithoutPath(err)))
	}
	for _, n := range names {
		var st unix.Stat_t
		if err := unix.Fstatat(int(dir.Fd()), n, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return "", unread(fmt.Errorf("stat %s: %w", in+n, err))
		}
		sort := st.Mode & unix.S_IFMT
		switch {
		case in == "" && sort == unix.S_IFDIR && isLevel(n):
			if odd, err = d.listLevel(n); err != nil {
				return "", err
			}
		case !isFile(n): // criu.log, stats-dump
		case in != "" && sort == unix.S_IFLNK: // to a pages file, for CRIU
		case sort != unix.S_IFREG:
			odd = in + n
		default:
			d.all[in+n] = st.Size
		}
	}
	return odd, nil
}

func (d *directory) listLevel(name string) (odd string, err error) {
	fd, err := unix.Openat(int(d.dir.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", unread(fmt.Errorf("open %s: %w", name, err))
	}
	dir := os.NewFile(uintptr(fd), name)
	defer dir.Close()
	return d.listIn(dir, name+"/")
}

func (d *directory) open(name string) (*stored, error) {
	if err := checkPlace(name); err != nil {
		return nil, err
	}
	// O_NONBLOCK: were it a FIFO by now, open(2) would wait for ever.
	fd, err := unix.Openat(int(d.dir.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, unread(fmt.Errorf("open %s: %w", name, err))
	}
	return &stored{file: os.NewFile(uintptr(fd), name), size: d.all[name]}, nil
}

// checkPlace refuses what is no name in an image's directory or in a level's.
func checkPlace(name string) error {
	in, base, found := strings.Cut(name, "/")
	if !found || !isLevel(in) {
		base = name
	}
	return checkName(base)
}
