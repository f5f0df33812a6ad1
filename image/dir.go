package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"ckpt/failure"
)

// partial is what the name of an unfinished image ends with.
const partial = ".partial"

// place is where a directory will stand: its parent, held open so that a
// rename still works when the thread's mount namespace has changed.
type place struct {
	parent *os.File
	path   string // as the user gave it
	name   string // last component
}

func (p *place) close() { _ = p.parent.Close() }

// findPlace checks that an image can be put at dir: absent, or an empty
// directory that a rename can replace.
func findPlace(dir string) (*place, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if strings.HasSuffix(abs, partial) {
		return nil, failure.WithHint(failure.Mark(failure.ErrUsage, fmt.Errorf("an image cannot be put at %s: names in %s are kept for unfinished images", dir, partial)),
			"give another name")
	}
	// A link to an empty directory: rename(2) would not follow it.
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		abs = real
	}
	if abs == "/" {
		return nil, failure.WithHint(failure.Mark(failure.ErrUsage, fmt.Errorf("an image cannot be put at /")), "give a name in a directory")
	}
	parent, err := os.OpenFile(filepath.Dir(abs), os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, noParent(dir, filepath.Dir(abs), err)
	}
	p := &place{parent: parent, path: dir, name: filepath.Base(abs)}
	if err := p.checkEmpty(); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *place) checkEmpty() error {
	fd, err := unix.Openat(int(p.parent.Fd()), p.name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return occupied(p.path, "it is not a directory")
	case err != nil:
		return noWrite(p.path, err)
	}
	d := os.NewFile(uintptr(fd), p.path)
	defer d.Close()
	if names, _ := d.Readdirnames(1); len(names) > 0 {
		return occupied(p.path, "it is not empty")
	}
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS, &st); err != nil {
		return fmt.Errorf("stat %s: %w", p.path, err)
	}
	if st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return failure.WithHint(fmt.Errorf("%s is a mount point, which a finished image cannot be renamed to", p.path),
			"give a name inside it: "+failure.Quote(filepath.Join(p.path, "image")))
	}
	return nil
}

func occupied(path, why string) error {
	return failure.WithHint(fmt.Errorf("an image cannot be put at %s: %s", path, why),
		"give a name that does not exist, or an empty directory")
}

// noParent tells why the directory that the image is to stand in was not opened.
func noParent(path, parent string, err error) error {
	switch {
	case errors.Is(err, unix.ENOENT):
		return failure.WithHint(fmt.Errorf("an image cannot be put at %s: there is no directory %s", path, parent),
			"make it first: mkdir -p "+failure.Quote(parent))
	case errors.Is(err, unix.ENOTDIR):
		return failure.WithHint(fmt.Errorf("an image cannot be put at %s: %s is not a directory", path, parent),
			"give a name in a directory")
	}
	return noWrite(path, err)
}

// noWrite tells that the file system refuses.
func noWrite(path string, err error) error {
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		err = fmt.Errorf("%s: %w", pe.Path, pe.Err)
	}
	err = fmt.Errorf("an image cannot be put at %s: %w", path, err)
	switch {
	case errors.Is(err, unix.ENAMETOOLONG):
		return failure.WithHint(err, "give a shorter name") // that of the unfinished image is longer by its ending
	case errors.Is(err, unix.EROFS):
		return failure.WithHint(err, "give a name on another file system: this one is mounted read-only")
	}
	if onDisk := failure.OnDisk(err, path); onDisk != err {
		return onDisk
	}
	return failure.WithHint(err, fmt.Sprintf("give a name in a directory that uid %d may read and write", os.Geteuid()))
}

// makePartial makes and locks the directory NAME.partial. One left behind by
// a dump that ended (its lock went with it, flock(2)) is removed.
func (p *place) makePartial() (*os.File, error) {
	name := p.name + partial
	parent := int(p.parent.Fd())
	for range 10 {
		err := unix.Mkdirat(parent, name, 0o700)
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return nil, noWrite(p.path, &os.PathError{Op: "mkdir", Path: p.path + partial, Err: err})
		}
		stale := err != nil
		d, err := p.lockPartial(name)
		if err != nil {
			if !stale {
				_ = unix.Unlinkat(parent, name, unix.AT_REMOVEDIR)
			}
			return nil, err
		}
		if d == nil { // removed in between by another dump: it is that one's now
			continue
		}
		if !stale {
			return d, nil
		}
		err = p.removeLocked(d)
		_ = d.Close()
		if err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("make %s: other dumps keep taking it away", p.path+partial)
}

var errWriting = errors.New("another dump is writing")

// lockPartial opens and locks the directory; nil when it is not there any more.
func (p *place) lockPartial(name string) (*os.File, error) {
	path := p.path + strings.TrimPrefix(name, p.name)
	fd, err := unix.Openat(int(p.parent.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, failure.OnDisk(fmt.Errorf("open %s: %w", path, err), p.path)
	}
	d := os.NewFile(uintptr(fd), path)
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = d.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, failure.WithHint(fmt.Errorf("%w %s", errWriting, path),
				"wait for it, or give another name")
		}
		return nil, failure.OnDisk(fmt.Errorf("lock %s: %w", path, err), p.path)
	}
	var held, there unix.Stat_t
	if err := unix.Fstat(fd, &held); err != nil {
		_ = d.Close()
		return nil, failure.OnDisk(fmt.Errorf("stat %s: %w", path, err), p.path)
	}
	err = unix.Fstatat(int(p.parent.Fd()), name, &there, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil || held.Ino != there.Ino || held.Dev != there.Dev {
		_ = d.Close()
		return nil, nil
	}
	return d, nil
}

// removeImage removes the files of an image and nothing else: a directory
// that holds anything foreign is somebody's, whatever its name.
func removeImage(d *os.File) error { return removeFiles(d, true) }

// removeFiles does so in one directory, and in those of levels below it.
func removeFiles(d *os.File, levels bool) error {
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, n := range names {
		if !isFile(n) && n != parentLink && !(levels && isLevel(n)) {
			return fmt.Errorf("it holds %s, which is no file of an image", n)
		}
	}
	for _, n := range names {
		if levels && isLevel(n) {
			if err := removeLevel(d, n); err != nil {
				return err
			}
			continue
		}
		if err := unix.Unlinkat(int(d.Fd()), n, 0); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remove %s: %w", n, err)
		}
	}
	return nil
}

// isFile tells by its name whether a file is part of an image.
func isFile(name string) bool {
	return strings.HasSuffix(strings.TrimSuffix(strings.TrimSuffix(name, aged), zst), suffix)
}

// finish renames NAME.partial to NAME and makes that durable.
func (p *place) finish() error {
	fd := int(p.parent.Fd())
	err := unix.Renameat2(fd, p.name+partial, fd, p.name, unix.RENAME_NOREPLACE)
	if err != nil {
		// An empty directory stands there, or the file system knows no flags
		// (EINVAL): rename(2) replaces a directory only when it is empty.
		err = unix.Renameat(fd, p.name+partial, fd, p.name)
	}
	if err != nil {
		return failure.OnDisk(fmt.Errorf("rename %s to %s: %w", p.path+partial, p.path, err), p.path)
	}
	if err := unix.Fsync(fd); err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: fsync(2) means nothing there
		return errors.Join(failure.OnDisk(fmt.Errorf("sync the directory of %s: %w", p.path, err), p.path), p.retract())
	}
	return nil
}

// retract renames NAME to NAME.partial, for what is not to be an image after all.
func (p *place) retract() error {
	fd := int(p.parent.Fd())
	err := unix.Renameat2(fd, p.name, fd, p.name+partial, unix.RENAME_NOREPLACE)
	if err != nil { // the file system knows no flags; nothing is there, since the directory is locked
		err = unix.Renameat(fd, p.name, fd, p.name+partial)
	}
	if err != nil {
		return failure.WithHint(fmt.Errorf("rename %s back to %s: %w", p.path, p.path+partial, err), "do not rely on that image: remove it: rm -r "+failure.Quote(p.path))
	}
	return nil
}
