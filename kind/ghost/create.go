package ghost

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	ghostfile "github.com/checkpoint-restore/go-criu/v7/crit/images/ghost-file"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
)

// tmpfile is the bit of O_TMPFILE that F_GETFL shows beside O_DIRECTORY's.
const tmpfile = unix.O_TMPFILE &^ unix.O_DIRECTORY

// createTmp makes a file that could get a name by linkat(2), and still can;
// nil where the file system has no such files, or the old one was none.
func createTmp(path string, mode, flags uint32) *os.File {
	if flags&tmpfile == 0 || mode&unix.S_IFMT != unix.S_IFREG { // then it is open for writing
		return nil
	}
	fd, err := unix.Open(filepath.Dir(path), unix.O_TMPFILE|int(flags)&unix.O_ACCMODE|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(fd), path)
}

// create makes an empty file that nothing leads to. Its name is the old one
// for the instant between making and unlinking, since links in /proc go on
// showing it, and so are its directories, where they have been deleted, too. Where
// the name is taken it is one beside it, and where a directory cannot be made
// one in the nearest above that is there.
func create(r *kind.Restore, path string, id uint32, e *ghostfile.GhostFileEntry, target string) (*os.File, error) {
	name, mode := path, e.GetMode()
	made := makeParents(r, name)
	defer func() {
		for _, dir := range made {
			_ = unix.Rmdir(dir) // fails where somebody has made use of it
		}
	}()
	for tries := 0; ; {
		if err := r.Names.Making(name, mode); err != nil {
			return nil, err
		}
		fd, err := createAt(name, e, target)
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), path), nil
		case errors.Is(err, unix.EEXIST) && tries < 100:
			tries++
			name = filepath.Join(filepath.Dir(name), fmt.Sprintf(".ckpt-ghost-%d-%d-%d", os.Getpid(), id, tries))
		case (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR)) && filepath.Dir(name) != "/":
			name = filepath.Join(filepath.Dir(filepath.Dir(name)), filepath.Base(name))
		case mode&unix.S_IFMT == unix.S_IFREG && (errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EROFS)):
			return createMemfd(path)
		case device(mode) && errors.Is(err, unix.EPERM):
			return nil, failure.WithHint(failure.Unsupportedf("make the deleted device %s again: %w", path, err), "restore as root")
		default:
			return nil, failure.WithHint(fmt.Errorf("make the deleted file %s again: %w", path, err),
				"let ckpt write into "+filepath.Dir(name)+", if only for an instant")
		}
	}
}

// makeParents makes the directories that a file was in and that are no more,
// and gives those it made, the lowest first.
func makeParents(r *kind.Restore, name string) (made []string) {
	missing := []string{}
	for dir := filepath.Dir(name); dir != "/"; dir = filepath.Dir(dir) {
		var st unix.Stat_t
		if !errors.Is(unix.Lstat(dir, &st), unix.ENOENT) {
			break
		}
		missing = append(missing, dir)
	}
	for _, dir := range slices.Backward(missing) {
		if r.Names.Making(dir, unix.S_IFDIR) != nil || unix.Mkdir(dir, 0o700) != nil {
			break
		}
		made = append([]string{dir}, made...)
	}
	return made
}

// createMemfd makes a file where no directory can be written to, such as that
// of a library for an ordinary user. Only its link in /proc shows the difference.
func createMemfd(path string) (*os.File, error) {
	name := filepath.Base(path)
	name = name[:min(len(name), 249)] // memfd_create(2)
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before 6.3
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	}
	if err != nil {
		return nil, fmt.Errorf("make the deleted file %s again (memfd_create): %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

func device(mode uint32) bool {
	return mode&unix.S_IFMT == unix.S_IFCHR || mode&unix.S_IFMT == unix.S_IFBLK
}

func createAt(name string, e *ghostfile.GhostFileEntry, target string) (fd int, err error) {
	const always = unix.O_NOFOLLOW | unix.O_CLOEXEC
	flags, remove := unix.O_PATH, unix.Unlink
	switch mode := e.GetMode(); mode & unix.S_IFMT {
	case unix.S_IFREG:
		fd, err = unix.Open(name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|always, 0o600)
		if err != nil {
			return 0, err
		}
		return fd, removeOr(fd, unix.Unlink(name))
	case unix.S_IFIFO:
		flags, err = unix.O_RDWR|unix.O_NONBLOCK, unix.Mkfifo(name, 0o600)
	case unix.S_IFDIR:
		flags, remove, err = unix.O_RDONLY|unix.O_DIRECTORY, unix.Rmdir, unix.Mkdir(name, 0o700)
	case unix.S_IFCHR, unix.S_IFBLK, unix.S_IFSOCK:
		err = unix.Mknod(name, mode&unix.S_IFMT, int(e.GetRdev())) // of no use to anybody under its name
	case unix.S_IFLNK:
		err = unix.Symlink(target, name)
	default:
		err = failure.Damagedf("a deleted file of mode %#o", mode)
	}
	if err != nil {
		return 0, err
	}
	fd, err = unix.Open(name, flags|always, 0)
	return fd, errors.Join(err, removeOr(fd, remove(name)))
}

// removeOr closes fd when the file could not be unlinked again.
func removeOr(fd int, err error) error {
	if err != nil && fd >= 0 {
		unix.Close(fd)
	}
	return err
}

// readTarget reads where a symbolic link leads; "" for all other files.
func readTarget(e *ghostfile.GhostFileEntry, d *image.Decoder) (string, error) {
	if e.GetMode()&unix.S_IFMT != unix.S_IFLNK {
		return "", nil
	}
	var c ghostfile.GhostChunkEntry
	if err := d.Next(&c); err != nil {
		return "", fmt.Errorf("read where a deleted symbolic link leads: %w", err)
	}
	if c.GetLen() == 0 || c.GetLen() >= unix.PathMax {
		return "", failure.Damagedf("a symbolic link of %d bytes", c.GetLen())
	}
	in, err := d.Stream(int64(c.GetLen()))
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(in)
	return string(b), err
}
