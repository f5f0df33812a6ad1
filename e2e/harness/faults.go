package harness

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Fault is a file system that fails: a disk that is broken, a quota that is used up.
type Fault struct {
	Below []string // the files and directories where it does
	Errno unix.Errno
	Reads bool // calls that read fail, instead of those that write
	Stays bool // all calls behind the first that fails do, too, and those that read
}

// FailAt runs ckpt and has the n-th system call fail, counted from 1, by which it
// writes to files below a directory; of 0, none. The call is not made, but for
// close(2), which frees the descriptor whatever it returns.
func (e *Env) FailAt(n int, f Fault, args ...string) Stepped {
	e.T.Helper()
	t := newTracer(n, args)
	failing := map[int]bool{} // threads in a call that fails
	t.step = func(tid int, s syscallEntry) string {
		c, ok := fileCalls[s.nr]
		if !ok || c.reads(s) != f.Reads && !(f.Stays && t.hit) {
			return ""
		}
		path := c.path(tid, s)
		if !slices.ContainsFunc(f.Below, func(dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }) {
			return ""
		}
		return c.name + " " + path
	}
	t.stays, t.goesOn = f.Stays, true
	t.do = func(tid int, s syscallEntry) error {
		failing[tid] = true
		if s.nr == unix.SYS_CLOSE {
			return nil
		}
		return skipCall(tid)
	}
	t.end = func(tid int) error {
		if !failing[tid] {
			return nil
		}
		delete(failing, tid)
		t.goesOn = f.Stays
		return endCall(tid, f.Errno)
	}
	return e.trace(t, args)
}

// KillAt runs ckpt and kills it, and all of it that it has started and that is about to
// take the n-th step by which it makes, renames or removes a name below dir, counted
// from 1.
func (e *Env) KillAt(n int, dir string, args ...string) Stepped {
	e.T.Helper()
	t := newTracer(n, args)
	t.step = func(tid int, s syscallEntry) string {
		c, ok := fileCalls[s.nr]
		if !ok || !c.in || c.reads(s) {
			return ""
		}
		if path := c.path(tid, s); path != dir && !strings.HasPrefix(path, dir+"/") {
			return ""
		}
		return c.name
	}
	t.do = func(tid int, _ syscallEntry) error {
		return errors.Join(unix.Kill(tid, unix.SIGKILL), unix.Kill(t.main, unix.SIGKILL))
	}
	return e.trace(t, args)
}

// fileCall is a system call that works on a file.
type fileCall struct {
	name string
	at   int  // the argument that is its descriptor, or the directory's
	in   bool // the next argument is a name in that directory
	read bool
}

// creates are flags of open(2) by which it writes.
const creates = unix.O_CREAT | unix.O_TRUNC | unix.O_TMPFILE&^unix.O_DIRECTORY

func (c fileCall) reads(s syscallEntry) bool {
	return c.read || s.nr == unix.SYS_OPENAT && s.args[2]&creates == 0
}

// path is that of the file, by its name of now.
func (c fileCall) path(tid int, s syscallEntry) string {
	fd, name := int32(s.args[c.at]), ""
	if c.in {
		name = stringAt(tid, s.args[c.at+1])
		if filepath.IsAbs(name) {
			return filepath.Clean(name)
		}
	}
	link := fmt.Sprintf("/proc/%d/fd/%d", tid, fd)
	if fd == unix.AT_FDCWD {
		link = fmt.Sprintf("/proc/%d/cwd", tid)
	}
	dir, err := os.Readlink(link)
	if err != nil {
		return ""
	}
	return filepath.Join(dir, name)
}

// stringAt reads a path from the memory of a thread.
func stringAt(tid int, addr uint64) string {
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", tid))
	if err != nil {
		return ""
	}
	defer mem.Close()
	b := make([]byte, unix.PathMax)
	n, _ := io.ReadFull(io.NewSectionReader(mem, int64(addr), int64(len(b))), b) // less, at the end of a mapping
	name, _, _ := bytes.Cut(b[:n], []byte{0})
	return string(name)
}

var fileCalls = map[uint64]fileCall{
	unix.SYS_WRITE:           {name: "write"},
	unix.SYS_PWRITE64:        {name: "pwrite64"},
	unix.SYS_WRITEV:          {name: "writev"},
	unix.SYS_PWRITEV:         {name: "pwritev"},
	unix.SYS_FTRUNCATE:       {name: "ftruncate"},
	unix.SYS_FALLOCATE:       {name: "fallocate"},
	unix.SYS_FSYNC:           {name: "fsync"},
	unix.SYS_FDATASYNC:       {name: "fdatasync"},
	unix.SYS_SYNCFS:          {name: "syncfs"},
	unix.SYS_SYNC_FILE_RANGE: {name: "sync_file_range"},
	unix.SYS_FCHMOD:          {name: "fchmod"},
	unix.SYS_FCHOWN:          {name: "fchown"},
	unix.SYS_FLOCK:           {name: "flock"},
	unix.SYS_CLOSE:           {name: "close"},
	unix.SYS_SENDFILE:        {name: "sendfile"},
	unix.SYS_COPY_FILE_RANGE: {name: "copy_file_range", at: 2},
	unix.SYS_SPLICE:          {name: "splice", at: 2},
	unix.SYS_OPENAT:          {name: "openat", in: true},
	unix.SYS_MKDIRAT:         {name: "mkdirat", in: true},
	unix.SYS_MKNODAT:         {name: "mknodat", in: true},
	unix.SYS_UNLINKAT:        {name: "unlinkat", in: true},
	unix.SYS_FCHMODAT:        {name: "fchmodat", in: true},
	unix.SYS_UTIMENSAT:       {name: "utimensat", in: true},
	unix.SYS_SYMLINKAT:       {name: "symlinkat", at: 1, in: true},
	unix.SYS_LINKAT:          {name: "linkat", at: 2, in: true},
	unix.SYS_RENAMEAT:        {name: "renameat", at: 2, in: true},
	unix.SYS_RENAMEAT2:       {name: "renameat2", at: 2, in: true},
	unix.SYS_READ:            {name: "read", read: true},
	unix.SYS_PREAD64:         {name: "pread64", read: true},
	unix.SYS_GETDENTS64:      {name: "getdents64", read: true},
	unix.SYS_FSTAT:           {name: "fstat", read: true},
	unix.SYS_READLINKAT:      {name: "readlinkat", in: true, read: true},
}
