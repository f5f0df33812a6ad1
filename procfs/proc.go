// Package procfs reads /proc/PID: typed parsers of the kernel's text.
//
// Every parser is a private parseX of bytes beside the public method that
// reads the file, so that it can be tested on captured text and fuzzed. The
// text is described in proc(5) and Documentation/filesystems/proc.rst.
package procfs

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Proc is one process (or one thread) under /proc, held by an open directory
// so that a reused pid is never read by mistake: once the process has been
// reaped, every method fails with ESRCH.
//
// Reading is safe from several goroutines; Close must be the last call.
type Proc struct {
	fd     int    // O_PATH of the directory
	name   string // for messages: "/proc/12", "/proc/12/task/13"
	thread bool
	living *Proc // see Through
}

// processOnly are the files that a thread's directory lacks (fs/proc/base.c,
// tid_base_stuff).
var processOnly = map[string]bool{"task": true, "timers": true, "timens_offsets": true, "map_files": true,
	"autogroup": true, "coredump_filter": true, "mountstats": true, "timerslack_ns": true}

// Through makes p read what its threads share through one of them. It is for
// a process whose leader has exited before its threads: memory, descriptors
// and all else are gone from the leader's directory.
func (p *Proc) Through(living *Proc) { p.living = living }

// at is the directory in which rel is to be looked up.
func (p *Proc) at(rel string) int {
	first, _, _ := strings.Cut(rel, "/")
	if p.living != nil && !processOnly[first] {
		return p.living.fd
	}
	return p.fd
}

// Open opens /proc/PID of the host, that is of the pid namespace /proc was
// mounted from. A pid that does not exist is ESRCH.
func Open(pid int) (*Proc, error) {
	return openDir(unix.AT_FDCWD, "/proc/"+strconv.Itoa(pid), "/proc/"+strconv.Itoa(pid), false)
}

// OpenAt opens the directory called name ("12", "self", "thread-self") of
// another /proc, held open as root.
func OpenAt(root *os.File, name string) (*Proc, error) {
	return openDir(int(root.Fd()), name, root.Name()+"/"+name, false)
}

// Thread opens /proc/PID/task/TID. A thread that is not of this process is ESRCH.
func (p *Proc) Thread(tid int) (*Proc, error) {
	rel := "task/" + strconv.Itoa(tid)
	return openDir(p.fd, rel, p.name+"/"+rel, true)
}

// PIDs are the processes that a /proc, held open as root, shows.
func PIDs(root *os.File) ([]int, error) {
	p := &Proc{fd: int(root.Fd()), name: root.Name()}
	return p.list(".")
}

func openDir(at int, path, name string, thread bool) (*Proc, error) {
	fd, err := openat(at, path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC)
	if errors.Is(err, unix.ENOENT) {
		err = unix.ESRCH
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return &Proc{fd: fd, name: name, thread: thread}, nil
}

// Close lets the directory go.
func (p *Proc) Close() error {
	if p == nil || p.fd < 0 {
		return nil
	}
	fd := p.fd
	p.fd = -1
	return unix.Close(fd)
}

// Name is the path it was opened by, for messages only.
func (p *Proc) Name() string { return p.name }

// Alive tells whether the process has not been reaped yet (a zombie has not).
func (p *Proc) Alive() bool { return reaches(p.fd) }

// reaches tells whether the task of a directory is still there: "stat" is for
// every task, whatever the kernel's configuration.
func reaches(fd int) bool {
	var st unix.Stat_t
	return unix.Fstatat(fd, "stat", &st, 0) == nil
}

// OpenFile opens a file of the directory ("mem", "pagemap", "map_files/…").
func (p *Proc) OpenFile(rel string, flags int) (*os.File, error) {
	fd, err := openat(p.at(rel), rel, flags|unix.O_CLOEXEC)
	if err != nil {
		return nil, p.wrap("open", rel, err)
	}
	return os.NewFile(uintptr(fd), p.name+"/"+rel), nil
}

// Read gives the whole text of a file of the directory.
func (p *Proc) Read(rel string) ([]byte, error) {
	return p.read(rel, make([]byte, 0, 4096))
}

// Write writes v into a file of the directory ("oom_score_adj") in one write(2).
func (p *Proc) Write(rel, v string) error {
	fd, err := openat(p.at(rel), rel, unix.O_WRONLY|unix.O_CLOEXEC)
	if err != nil {
		return p.wrap("open", rel, err)
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte(v)); err != nil {
		return p.wrap("write", rel, err)
	}
	return nil
}

// read appends the file to buf, which is grown as needed. The kernel may
// return fewer bytes than asked long before the end (seq_file, one record at
// a time), so only a read of zero bytes is the end.
func (p *Proc) read(rel string, buf []byte) ([]byte, error) {
	fd, err := openat(p.at(rel), rel, unix.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		return nil, p.wrap("open", rel, err)
	}
	defer unix.Close(fd)
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := unix.Read(fd, buf[len(buf):cap(buf)])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return nil, p.wrap("read", rel, err)
		case n == 0:
			return buf, nil
		}
		buf = buf[:len(buf)+n]
	}
}

// wrap names the file. Opening a file of a process that was reaped gives
// ENOENT, as a file that this kernel does not have does; reading the link to a
// namespace that was found while it lived gives EACCES, as one that may not be
// read does (fs/proc/namespaces.c, proc_ns_readlink): tell them apart.
func (p *Proc) wrap(verb, rel string, err error) error {
	if (err == unix.ENOENT || err == unix.EACCES) && !reaches(p.at(rel)) {
		err = unix.ESRCH
	}
	return fmt.Errorf("%s %s/%s: %w", verb, p.name, rel, err)
}

func (p *Proc) parseErr(rel string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("parse %s/%s: %w", p.name, rel, err)
}

func openat(at int, path string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(at, path, flags, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}
