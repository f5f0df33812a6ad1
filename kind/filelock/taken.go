package filelock

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	filelock "github.com/checkpoint-restore/go-criu/v7/crit/images/file-lock"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kind"
	"ckpt/procfs"
)

// taken says why a lock, or a lease, cannot be had again: somebody else has
// come before. name is that of the file; "" if it has none.
type taken struct {
	r    *kind.Restore
	t    *kind.Target
	e    *filelock.FileLockEntry
	name string
	st   *unix.Stat_t // of the file, where it has not been made yet; else nil
}

func (k *taken) why(errno unix.Errno) error {
	file := fmt.Sprintf("fd %d", k.e.GetFd())
	if k.name != "" {
		file += ": " + k.name
	}
	lease := k.e.GetFlag() == lease
	switch {
	case lease && errno == unix.EACCES:
		return failure.WithHint(failure.Unsupportedf("%s: a lease (F_SETLEASE) can be had on one's own files only", file), "restore as root")
	case errno != unix.EAGAIN && errno != unix.EACCES: // POSIX lets fcntl(2) give either
		return nil
	}
	what := "its lock (" + k.text() + ") is held by"
	if lease {
		what = "a lease (F_SETLEASE) cannot be had on it, for it is open in"
	}
	pid, comm := k.holder()
	if pid == 0 {
		return failure.WithHint(fmt.Errorf("%s: %s another program", file, what), "find it with lslocks or lsof, and end it")
	}
	hints := []string{fmt.Sprintf("end it, or wait until it has done; whether it is in a container is told by: ckpt ps --pid %d", pid)}
	if comm == k.t.TC.GetComm() {
		hints = append(hints, "copies of a container cannot run side by side while they lock the same file: let each have a file of its own")
	}
	return failure.WithHint(fmt.Errorf("%s: %s host pid %d (%s)", file, what, pid, comm), hints...)
}

// text is as "fcntl, for writing, bytes 5 to 14".
func (k *taken) text() string {
	words := []string{map[uint32]string{posix: "fcntl", ofd: "F_OFD_SETLK", flock: "flock"}[k.e.GetFlag()], "for reading"}
	if k.e.GetType() == unix.F_WRLCK {
		words[1] = "for writing"
	}
	switch w := k.wanted(); {
	case k.e.GetFlag() == flock || w.Start == 0 && w.End == procfs.LockEOF:
	case w.End == procfs.LockEOF:
		words = append(words, fmt.Sprintf("from byte %d on", w.Start))
	default:
		words = append(words, fmt.Sprintf("bytes %d to %d", w.Start, w.End))
	}
	return strings.Join(words, ", ")
}

func (k *taken) wanted() procfs.Lock {
	w := procfs.Lock{Start: k.e.GetStart(), End: procfs.LockEOF}
	if k.e.GetLen() != 0 {
		w.End = w.Start + k.e.GetLen() - 1
	}
	return w
}

// inTheWay tells whether l keeps the lock from being taken. Those of fcntl(2)
// and flock(2) do not know each other.
func (k *taken) inTheWay(l *procfs.Lock) bool {
	w := k.wanted()
	flocked := k.e.GetFlag() == flock
	return !l.Blocked && (l.Type == "FLOCK") == flocked && (flocked || l.Type == "POSIX" || l.Type == "OFDLCK") &&
		(l.Write() || k.e.GetType() == unix.F_WRLCK) && l.Start <= w.End && w.Start <= l.End
}

// holder is a process that is in the way, by its host pid and name; 0 where
// none is seen.
func (k *taken) holder() (pid int, comm string) {
	st, err := k.stat()
	if err != nil {
		return 0, ""
	}
	if pid := k.listed(st); pid != 0 {
		return pid, k.comm(pid)
	}
	pids, err := procfs.PIDs(k.r.HostProc)
	if err != nil {
		return 0, ""
	}
	for _, pid := range pids {
		if !k.ours(pid) && k.holds(pid, st) {
			return pid, k.comm(pid)
		}
	}
	return 0, ""
}

// listed is the owner of a lock in the way by /proc/locks, which everybody may
// read, and which tells none of a lease or of a lock of an open file description.
func (k *taken) listed(st *unix.Stat_t) int {
	all, err := procfs.Locks(k.r.HostProc)
	if err != nil || k.e.GetFlag() == lease {
		return 0
	}
	for i := range all {
		if l := &all[i]; l.PID > 0 && l.Dev == st.Dev && l.Ino == st.Ino && k.inTheWay(l) {
			return l.PID
		}
	}
	return 0
}

// holds looks through the descriptors of a process, so far as ckpt may.
func (k *taken) holds(pid int, st *unix.Stat_t) bool {
	p, err := procfs.OpenAt(k.r.HostProc, fmt.Sprint(pid))
	if err != nil {
		return false
	}
	defer p.Close()
	fds, err := p.FDs()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(fds, func(fd int) bool {
		its, err := p.FDStat(fd)
		if err != nil || its.Dev != st.Dev || its.Ino != st.Ino {
			return false
		}
		if k.e.GetFlag() == lease {
			return true
		}
		info, err := p.FDInfo(fd)
		if err != nil {
			return false
		}
		locks, err := info.Locks()
		return err == nil && slices.ContainsFunc(locks, func(l procfs.Lock) bool { return k.inTheWay(&l) })
	})
}

// ours tells whether a process is ckpt, which has every file of the container
// open, or one that is being rebuilt.
func (k *taken) ours(pid int) bool {
	return pid == os.Getpid() || slices.ContainsFunc(k.r.Targets, func(t *kind.Target) bool { return int(t.Host) == pid })
}

func (k *taken) comm(pid int) string {
	p, err := procfs.OpenAt(k.r.HostProc, fmt.Sprint(pid))
	if err != nil {
		return "?"
	}
	defer p.Close()
	comm, err := p.Comm()
	if err != nil {
		return "?"
	}
	return comm
}

func (k *taken) stat() (*unix.Stat_t, error) {
	if k.st != nil {
		return k.st, nil
	}
	f, err := k.file()
	if err != nil {
		return nil, err
	}
	st := new(unix.Stat_t)
	return st, unix.Fstat(int(f.Fd()), st)
}

// file is what the process has as the descriptor.
func (k *taken) file() (*os.File, error) {
	for _, d := range k.t.Fds {
		if int32(d.GetFd()) == k.e.GetFd() {
			return k.r.File(d.GetId()) // made long since
		}
	}
	return nil, errors.New("there is no such descriptor")
}

// newTaken finds the name.
func newTaken(r *kind.Restore, t *kind.Target, e *filelock.FileLockEntry) *taken {
	k := &taken{r: r, t: t, e: e}
	if d := describes(r, t, e.GetFd()); d != nil {
		k.name = r.Entries[d.id].GetReg().GetName()
	}
	return k
}
