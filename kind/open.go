package kind

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"ckpt/failure"
)

// settable are the status flags that F_SETFL of fcntl(2) changes; the others
// can only be given to open(2).
const settable = unix.O_APPEND | unix.O_NONBLOCK | unix.O_ASYNC | unix.O_DIRECT | unix.O_NOATIME

// LargeFile is O_LARGEFILE of this architecture as F_GETFL shows it: open(2) of
// a 64-bit program puts it in, calls that make a file otherwise leave it out.
const LargeFile = 0o100000

// creating are the flags that say how open(2) finds the file, not what the
// description is.
const creating = unix.O_CREAT | unix.O_EXCL | unix.O_TRUNC | unix.O_NOCTTY | unix.O_CLOEXEC

// OpenFlags makes saved flags fit for opening the same file again: nothing is
// made or cut, no terminal becomes the controlling one.
func OpenFlags(saved uint32) int {
	flags := int(saved)
	if flags&unix.O_TMPFILE == unix.O_TMPFILE { // which includes O_DIRECTORY
		flags &^= unix.O_TMPFILE
	}
	return flags&^creating&^unix.O_ASYNC | unix.O_NOCTTY | unix.O_CLOEXEC
}

// Reopen opens the file behind f anew, through ckpt's own descriptor in the
// host's /proc (the thread sees the container's): another open file
// description of the same inode, with the saved flags. It works for pipes
// and for files without a name; not for sockets.
func (r *Restore) Reopen(f *os.File, saved uint32) (*os.File, error) {
	// O_NONBLOCK lest a pipe without the other end blocks; O_DIRECT is refused
	// by open(2) for pipes, F_SETFL takes it. The link in /proc has to be
	// followed, whatever the program wanted of the name (shm_open(3)).
	flags := OpenFlags(saved)&^(unix.O_DIRECT|unix.O_NOFOLLOW) | unix.O_NONBLOCK
	fd, err := unix.Openat(int(r.HostProc.Fd()), "thread-self/fd/"+strconv.Itoa(int(f.Fd())), flags, 0)
	if err != nil {
		return nil, fmt.Errorf("reopen %s: %w", f.Name(), err)
	}
	return NewFile(fd, saved, f.Name())
}

// NewFile is os.NewFile for a description that is to have the saved status
// flags: they are set here. Go's poller is kept out of it (os.NewFile would
// add a descriptor that does not block). It owns fd, also when it fails.
func NewFile(fd int, saved uint32, name string) (*os.File, error) {
	have, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err == nil && have&unix.O_PATH == 0 && have&unix.O_NONBLOCK != 0 {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_SETFL, have&^unix.O_NONBLOCK)
		have &^= unix.O_NONBLOCK
	}
	f := os.NewFile(uintptr(fd), name)
	if err == nil && have&unix.O_PATH == 0 && have&settable != int(saved)&settable {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_SETFL, int(saved)&settable)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("set status flags %#o of %s: %w", saved, name, err)
	}
	return f, nil
}

// Reopen opens the file behind the descriptor anew, as ckpt's own. It does
// not work for sockets. The file's access time may change.
func (d *Desc) Reopen(flags int) (*os.File, error) {
	// ckpt's own number is good for every Desc, those of Dump.AddFile too.
	path := "/proc/thread-self/fd/" + strconv.Itoa(int(d.File.Fd()))
	fd, err := unix.Open(path, flags|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("reopen %s: %w", d.Link, err)
	}
	return NewFile(fd, uint32(flags), d.Link)
}

// At says which descriptor an error found only in Finish is about.
func At(d *Desc, err error) error {
	e := &failure.Error{VPID: int(d.Proc.VPID), Comm: d.Proc.Comm, What: d.Link, Err: err}
	if d.FD >= 0 {
		e.What = fmt.Sprintf("fd %d", d.FD)
	}
	return e
}

// Keep is d for use until Finish: the file of one that came through
// Dump.AddFile is closed when its Dump returns. The caller ends it with Drop.
func (d *Desc) Keep() (*Desc, error) {
	if d.FD >= 0 {
		return d, nil
	}
	fd, err := unix.FcntlInt(d.File.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate %s: %w", d.Link, err)
	}
	k := *d
	k.File = os.NewFile(uintptr(fd), d.Link)
	return &k, nil
}

// Drop ends what Keep gave. d may be nil.
func (d *Desc) Drop() {
	if d != nil && d.FD < 0 {
		d.File.Close()
	}
}
