package image

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"ckpt/failure"
)

// parentLink is CRIU's name for the link to a parent image.
const parentLink = "parent"

// longestLine is how many images may be made one after another. Each is a directory
// that is open as long as the last one is.
const longestLine = 256

// isLevel tells whether a directory of an image is that of a level.
func isLevel(name string) bool {
	n, err := strconv.Atoi(strings.TrimPrefix(name, "same-"))
	return err == nil && n > 0 && name == levelDir(n)
}

// openParent opens the image that r was made after, if any; those in line were made
// after r.
func (r *Reader) openParent(line []*Reader) error {
	link := levelName(r.levels(), parentLink)
	was := r.manifest.GetParent()
	if r.manifest != nil && was == nil {
		return nil
	}
	in, ok := r.store.(*directory)
	if !ok {
		return failure.Damagedf("the image is incremental, and a stream has no parent")
	}
	path := filepath.Join(r.store.path(), link) // the image itself, in a copy that has followed the link
	fd, err := unix.Openat(int(in.dir.Fd()), link, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil && was.GetPath() != "" && in.lost(link) {
		path = filepath.Join(r.store.path(), was.GetPath())
		fd, err = unix.Openat(int(in.dir.Fd()), was.GetPath(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	}
	switch {
	case r.manifest == nil && errors.Is(err, unix.ENOENT):
		return nil
	case err != nil:
		return unread(brokenChain(r, was, err))
	}
	if to, err := os.Readlink(filepath.Join(r.store.path(), link)); err == nil {
		path = to
		if !filepath.IsAbs(to) {
			path = filepath.Join(r.store.path(), filepath.Dir(link), to)
		}
	}
	d := os.NewFile(uintptr(fd), path)
	line = append(line, r)
	if err := checkLine(d, line); err != nil {
		_ = d.Close()
		return err
	}
	p, s, err := r.keys.openIn(&directory{dir: d}, line)
	if err != nil {
		_ = d.Close()
		return inParent(&Reader{store: s}, err)
	}
	if was != nil && !bytes.Equal(p.id, was.Sha256) {
		_ = p.Close()
		return failure.WithHint(failure.Damagedf("the image is incremental, and %s is not the parent that it was made after", path),
			"look for that one, and let the link lead to it: "+relink(r))
	}
	r.parent = p
	return nil
}

// lost tells whether a symbolic link is not there, or is a file with its text, as where
// a copy has gone through a file system without links.
func (d *directory) lost(link string) bool {
	var st unix.Stat_t
	err := unix.Fstatat(int(d.dir.Fd()), link, &st, unix.AT_SYMLINK_NOFOLLOW)
	return errors.Is(err, unix.ENOENT) || err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG
}

// checkLine refuses a chain of images that is too long, or that leads back into
// itself.
func checkLine(d *os.File, line []*Reader) error {
	if len(line) > longestLine {
		return failure.Damagedf("there are more than %d images one after another", longestLine)
	}
	var st, other unix.Stat_t
	if err := unix.Fstat(int(d.Fd()), &st); err != nil {
		return unread(fmt.Errorf("stat %s: %w", d.Name(), failure.WithoutPath(err)))
	}
	for _, r := range line {
		in := r.store.(*directory)
		if err := unix.Fstat(int(in.dir.Fd()), &other); err != nil {
			return unread(fmt.Errorf("stat %s: %w", r.store.path(), failure.WithoutPath(err)))
		}
		if st.Dev == other.Dev && st.Ino == other.Ino {
			return failure.Damagedf("%s is its own parent", d.Name())
		}
	}
	return nil
}

// checkHeir refuses to make an image after r that nobody could open, since too many
// are before it.
func (r *Reader) checkHeir() error {
	n := 0
	for p := r; p != nil; p = p.parent {
		n++
	}
	if n <= longestLine {
		return nil
	}
	return failure.WithHint(failure.Mark(failure.ErrUsage, fmt.Errorf("%s has %d images before it, each made after another, which is as many as there may be", r.store.path(), longestLine)),
		"begin anew: leave out --parent, or name an earlier image")
}

// brokenChain tells that the parent of r is not there.
func brokenChain(r *Reader, was *Ancestor, err error) error {
	where := was.GetPath()
	if where == "" {
		where = parentLink
	}
	err = fmt.Errorf("the image is incremental, and its parent %s cannot be opened: %w", where, err)
	if diskFails(err) {
		return err
	}
	return failure.WithHint(failure.Mark(failure.ErrDamaged, err),
		"put that image back where it was, or let the link lead to it: "+relink(r))
}

// relink is the command that tells r where its parent is.
func relink(r *Reader) string {
	return "ln -sfn PARENT " + failure.Quote(filepath.Join(r.store.path(), levelName(r.levels(), parentLink)))
}

// parentError is an error of a parent image.
type parentError struct {
	path string
	err  error
}

func (e *parentError) Error() string { return "parent image " + e.path + ": " + e.err.Error() }
func (e *parentError) Unwrap() error { return e.err }

// inParent says that err is of the parent image r, unless it is of one of that
// one's own parents.
func inParent(r *Reader, err error) error {
	if err == nil {
		return nil
	}
	return eachOf(err, func(e error) error {
		if _, ok := errors.AsType[*parentError](e); ok {
			return e
		}
		return &parentError{r.store.path(), e}
	})
}
