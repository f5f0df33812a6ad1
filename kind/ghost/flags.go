package ghost

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kind"
)

// Flags of an inode (linux/fs.h, FS_IOC_GETFLAGS of ioctl_iflags(2)) that say
// how a file may be used; the others are about how it is stored.
const (
	flagSync      = 0x8
	flagImmutable = 0x10
	flagAppend    = 0x20
	flagNoDump    = 0x40
	flagNoAtime   = 0x80
	flagDirSync   = 0x10000

	carriedFlags = flagSync | flagImmutable | flagAppend | flagNoDump | flagNoAtime | flagDirSync
)

// inodeFlags reads them; 0 where the file system has none.
func inodeFlags(fd int) (uint32, error) {
	flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	if noFlags(err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read its flags (FS_IOC_GETFLAGS): %w", err)
	}
	return flags & carriedFlags, nil
}

func noFlags(err error) bool { return errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EOPNOTSUPP) }

// setInodeFlags comes last: a file that is immutable can be neither filled nor
// opened for writing.
func setInodeFlags(r *kind.Restore, f *os.File, want uint32) error {
	if want &= carriedFlags; want == 0 {
		return nil
	}
	have, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(have&^carriedFlags|want))
	}
	switch {
	case noFlags(err): // it is made on another file system
		r.Log.Warn("flags of a deleted file (chattr) are not set", "path", f.Name(), "flags", want)
		return nil
	case errors.Is(err, unix.EPERM):
		return failure.WithHint(fmt.Errorf("make the deleted file %s immutable, or one to append to, as it was (FS_IOC_SETFLAGS): %w", f.Name(), err), "restore as root")
	case err != nil:
		return fmt.Errorf("set the flags of %s (FS_IOC_SETFLAGS): %w", f.Name(), err)
	}
	return nil
}
