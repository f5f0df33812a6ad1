package procfs

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Lock is a line of /proc/locks, or a "lock:" line of fdinfo.
type Lock struct {
	Type    string // FLOCK, POSIX, OFDLCK, LEASE, DELEG
	Mode    string // ADVISORY, MANDATORY, MSNFS; of a lease ACTIVE, BREAKING, BREAKER
	Access  string // READ, WRITE, UNLCK; of a breaking lease what it will become
	PID     int    // host id of the owner; -1 of an OFDLCK
	Dev     uint64 // as unix.Mkdev makes it
	Ino     uint64
	Start   int64
	End     int64 // last byte, LockEOF: to the end
	Blocked bool  // waits for the lock above it (only in /proc/locks)
}

// LockEOF as Lock.End: the lock reaches to the end of the file, however it grows.
const LockEOF = 1<<63 - 1

// Write tells whether the lock is exclusive.
func (l *Lock) Write() bool { return l.Access == "WRITE" }

// Locks are the locks that an fdinfo shows: those of the open file
// description, and those of the process on the file.
func (f *FDInfo) Locks() ([]Lock, error) {
	var out []Lock
	for _, s := range f.Lines {
		v, ok := strings.CutPrefix(s, "lock:")
		if !ok {
			continue
		}
		l, err := parseLock([]byte(v))
		if err != nil {
			return nil, fmt.Errorf("%q: %w", s, err)
		}
		out = append(out, l)
	}
	return out, nil
}

// Locks are all locks of the machine (/proc/locks) whose owners this /proc, held
// open as root, shows; those of open file descriptions have none.
func Locks(root *os.File) ([]Lock, error) {
	const name = "locks"
	fd, err := openat(int(root.Fd()), name, unix.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open %s/%s: %w", root.Name(), name, err)
	}
	f := os.NewFile(uintptr(fd), root.Name()+"/"+name)
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	var out []Lock
	for line := range bytes.Lines(b) {
		l, err := parseLock(line)
		if err != nil {
			return nil, fmt.Errorf("%s: %q: %w", f.Name(), line, err)
		}
		out = append(out, l)
	}
	return out, nil
}

// parseLock reads "1: POSIX  ADVISORY  WRITE 8278 fe:00:9977913 5 14".
func parseLock(b []byte) (Lock, error) {
	l := Lock{}
	_, b = next(b) // its number
	w, b := next(b)
	if string(w) == "->" {
		l.Blocked = true
		w, b = next(b)
	}
	l.Type = string(w)
	mode, b := next(b)
	access, b := next(b)
	l.Mode, l.Access = string(mode), string(access)
	w, b = next(b)
	pid, err := intOf(w)
	if err != nil {
		return l, fmt.Errorf("owner: %w", err)
	}
	l.PID = int(pid)
	w, b = next(b)
	parts := bytes.Split(w, []byte(":"))
	if len(parts) != 3 {
		return l, fmt.Errorf("file %q is not major:minor:inode", w)
	}
	var n [3]uint64
	for i, base := range []uint64{16, 16, 10} {
		if n[i], err = uintOf(parts[i], base); err != nil {
			return l, fmt.Errorf("file: %w", err)
		}
	}
	l.Dev, l.Ino = unix.Mkdev(uint32(n[0]), uint32(n[1])), n[2]
	w, b = next(b)
	if l.Start, err = intOf(w); err != nil {
		return l, fmt.Errorf("start: %w", err)
	}
	if w, _ = next(b); string(w) == "EOF" {
		l.End = LockEOF
		return l, nil
	}
	if l.End, err = intOf(w); err != nil {
		return l, fmt.Errorf("end: %w", err)
	}
	return l, nil
}
