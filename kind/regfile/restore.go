package regfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/regfile"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/kind/ghost"
)

// restorer keeps what lives as long as one restore.
type restorer struct {
	ghosts ghost.Restorer
	warned map[string]bool
}

func (s *restorer) restore(r *kind.Restore, e *fdinfo.FileEntry) (*os.File, error) {
	reg := e.GetReg()
	if reg == nil {
		return nil, failure.Damagedf("a file without its entry")
	}
	if reg.GetExt() {
		return nil, failure.Unsupportedf("%s was left out of the image as external (criu --external)", reg.GetName())
	}
	f, seek, err := s.open(r, reg)
	if err != nil {
		return nil, err
	}
	if err := finish(r, f, reg, seek); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// open gives the description, and whether it must be moved to the saved position.
func (s *restorer) open(r *kind.Restore, reg *regfile.RegFileEntry) (f *os.File, seek bool, err error) {
	if r.LogFile != nil && slices.Contains(r.Manifest.GetLogFiles(), reg.GetId()) {
		f, err := r.Reopen(r.LogFile, reg.GetFlags())
		if err == nil && reg.GetFlags()&unix.O_APPEND == 0 {
			if _, err = f.Seek(0, io.SeekEnd); err != nil { // the new log has a text of its own
				f.Close()
			}
		}
		return f, false, err
	}
	f, err = s.ghosts.Open(r, reg.GetId(), reg.GetName(), reg.GetFlags())
	if err != nil || f != nil {
		return f, true, err
	}
	if err := present(r, reg); err != nil {
		return nil, false, err
	}
	f, err = openPath(r, reg)
	if err != nil {
		return nil, false, err
	}
	if err := s.compare(r, f, reg); err != nil {
		f.Close()
		return nil, false, err
	}
	return f, true, nil
}

// check compares the file with what the image says, and opens nothing. Files
// of the container's own /proc are not there before it runs.
func (s *restorer) check(r *kind.Restore, e *fdinfo.FileEntry) error {
	reg := e.GetReg()
	if slices.Contains(r.Manifest.GetLogFiles(), reg.GetId()) || strings.HasPrefix(reg.GetName(), "/proc/") {
		return nil
	}
	if held, err := s.ghosts.Holds(r, reg.GetId()); held || err != nil {
		if err != nil {
			return err
		}
		return s.ghosts.Fits(r, reg.GetId(), reg.GetName())
	}
	// Of a symbolic link that is held itself, not what it leads to.
	fd, err := unix.Open(reg.GetName(), unix.O_PATH|unix.O_CLOEXEC|int(reg.GetFlags())&unix.O_NOFOLLOW, 0)
	if err != nil {
		return openFailed(r, reg, err)
	}
	f := os.NewFile(uintptr(fd), reg.GetName())
	defer f.Close()
	return s.compare(r, f, reg)
}

func openPath(r *kind.Restore, reg *regfile.RegFileEntry) (*os.File, error) {
	// O_NONBLOCK: if a FIFO stands there now, open(2) would wait for ever.
	flags := kind.OpenFlags(reg.GetFlags()) | unix.O_NONBLOCK
	if reg.GetMode()&unix.S_IFMT == unix.S_IFREG {
		flags |= int(reg.GetFlags()) & unix.O_ASYNC // means nothing there, and stays as it was opened
	}
	fd, err := unix.Open(reg.GetName(), flags, 0)
	if err != nil {
		return nil, openFailed(r, reg, err)
	}
	return kind.NewFile(fd, reg.GetFlags(), reg.GetName())
}

func openFailed(r *kind.Restore, reg *regfile.RegFileEntry, err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		if old, ok := r.MovedFrom[reg.GetName()]; ok {
			return differs("put it there", "%s is missing, to which %s was to have moved: it was %s", reg.GetName(), old, describe(reg))
		}
		return differs("put it back", "%s is gone since the dump: it was %s", reg.GetName(), describe(reg))
	}
	failed := fmt.Errorf("open %s: %w", reg.GetName(), err)
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		// Whoever has the lease has been told by now to give it up (F_SETLEASE of fcntl(2)).
		return failure.WithHint(fmt.Errorf("open %s: another program has a lease on it", reg.GetName()),
			"try again in a moment, or end that program: lsof "+failure.Quote(reg.GetName()))
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return failure.WithHint(failed, "let uid "+strconv.Itoa(os.Geteuid())+" open it as the program did, or restore as root")
	case errors.Is(err, unix.EROFS):
		return failure.WithHint(failed, "mount that file system so that it can be written to")
	case errors.Is(err, unix.ETXTBSY):
		return failure.WithHint(failed, "end the programs that run it: fuser "+failure.Quote(reg.GetName()))
	}
	return failed
}

func describe(reg *regfile.RegFileEntry) string {
	if reg.Size != nil {
		return fmt.Sprintf("a file of %d bytes", reg.GetSize())
	}
	return sort(reg.GetMode())
}

func sort(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return "a directory"
	case unix.S_IFCHR, unix.S_IFBLK:
		return "a device"
	case unix.S_IFIFO:
		return "a FIFO"
	case unix.S_IFSOCK:
		return "a socket"
	case unix.S_IFLNK:
		return "a symbolic link"
	}
	return "a file"
}

// compare refuses a file that is another than it was. The program goes on
// with what it remembers of it.
func (s *restorer) compare(r *kind.Restore, f *os.File, reg *regfile.RegFileEntry) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("stat %s: %w", f.Name(), err)
	}
	if reg.Mode != nil && st.Mode&unix.S_IFMT != reg.GetMode()&unix.S_IFMT { // old images of criu's have no mode
		return differs("put the old file back", "%s was %s when it was saved, and is %s now", f.Name(), sort(reg.GetMode()), sort(st.Mode))
	}
	if reg.Size == nil || appends(reg) || r.AllowChanged(reg.GetName()) {
		return nil
	}
	if uint64(st.Size) != reg.GetSize() {
		return differs("put the old file back, or accept the new one with --allow-changed "+failure.Quote(f.Name()),
			"%s changed since the dump: %d bytes then, %d now", f.Name(), reg.GetSize(), st.Size)
	}
	if then := r.Extras[reg.GetId()].GetMtimeNs(); then != 0 && then != st.Mtim.Nano() && !s.warned[f.Name()] {
		s.warned[f.Name()] = true
		r.Log.Warn("file was written to since the dump, but its size is the same", "path", f.Name())
	}
	return nil
}

// differs is told by the file's name alone: which descriptor it is does not
// help who has to put it right.
func differs(hint, format string, args ...any) error {
	return &failure.Error{What: fmt.Sprintf(format, args...), Hints: []string{hint}}
}

// appends: such a program never looks at what is already in the file.
func appends(reg *regfile.RegFileEntry) bool {
	const mask = unix.O_ACCMODE | unix.O_APPEND
	return reg.GetFlags()&mask == unix.O_WRONLY|unix.O_APPEND
}

// finish sets position and owner.
func finish(r *kind.Restore, f *os.File, reg *regfile.RegFileEntry, seek bool) error {
	if reg.GetFlags()&unix.O_PATH != 0 {
		return nil
	}
	if seek && reg.GetPos() != 0 && reg.GetPos() != noPosition {
		if _, err := unix.Seek(int(f.Fd()), int64(reg.GetPos()), io.SeekStart); err != nil {
			return fmt.Errorf("set the position in %s to %d: %w", f.Name(), reg.GetPos(), err)
		}
		if err := makeAnew(r, f, reg); err != nil {
			return err
		}
	}
	if hint := r.Extras[reg.GetId()].GetWriteHint(); hint != 0 {
		// Advice only: whoever restores may not be the file's owner.
		_ = kernel.SetWriteHint(f.Fd(), hint)
	}
	return r.RestoreOwner(f, reg.GetFown())
}
