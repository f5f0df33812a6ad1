// Package filelock saves the locks that processes hold on files: those of
// fcntl(2), which belong to a process (POSIX), and those of flock(2) and
// F_OFD_SETLK, which belong to an open file description; and leases
// (F_SETLEASE), which do so, too.
//
// What the kernel shows: fdinfo has a line a lock; /proc/locks tells which
// processes have POSIX locks at all, so that their descriptors are looked at
// a second time only then.
//
// What is saved: kind, range and reader or writer, with a descriptor to take
// the lock by. They are taken again by the process itself, when nothing will
// close a file in it any more: any close drops its POSIX locks on that file
// (fcntl(2)).
//
// What is lost: see Limits. Between the end of the old container and the
// restore somebody else can take them; then the restore fails.
//
// Needs: lock lines in fdinfo, Linux 4.1.
package filelock

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	filelock "github.com/checkpoint-restore/go-criu/v7/crit/images/file-lock"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/pidns"
)

// Flags of an entry, by CRIU's numbers.
const (
	posix = 1
	flock = 2
	ofd   = 4
	lease = 8
)

// Kind must be the last of the processes' kinds: what comes later in
// Target.Late may close files.
func Kind() kind.Process {
	s := &saver{}
	r := &restorer{}
	return kind.Process{
		Name:    "file locks",
		Saves:   "locks of fcntl(2), of open file descriptions and of flock(2); leases",
		Refuses: "a lease that ckpt would break by reading the file; delegations",
		Needs:   "lock lines in fdinfo (4.1)",
		Observe: s.observe,
		Restore: r.restore,
		Check:   r.check,
		Limits: "locks are free between the dump and the restore; /proc/locks shows another process as the taker of an flock(2) if he holds the file no more; " +
			"a lease for writing that a reader has, and is to give up, comes back as one for reading; who has to give one up has the whole time for it again (lease-break-time)",
	}
}

// lock is one lock, as fdinfo shows it.
type lock struct {
	flag       uint32
	taker      pidns.HostPID // 0 or less: not told
	typ        uint32        // F_RDLCK, F_WRLCK; of a lease also F_UNLCK, and broken
	start, len int64         // len 0: to the end of the file, however it grows
}

// parse reads a line of fdinfo; ok is false for a line that is none of the
// four sorts of lock.
//
//	lock:	1: POSIX  ADVISORY  WRITE 8735 fe:00:3366913 10 14
func parse(line string) (l lock, ok bool, err error) {
	f := strings.Fields(line)
	if len(f) < 3 || f[0] != "lock:" {
		return l, false, nil
	}
	l.flag = map[string]uint32{"POSIX": posix, "FLOCK": flock, "OFDLCK": ofd, "LEASE": lease}[f[2]]
	if l.flag == 0 {
		return l, false, nil
	}
	if len(f) != 9 {
		return l, false, fmt.Errorf("%q: %d words, want 9", line, len(f))
	}
	if n, err := strconv.Atoi(f[5]); err == nil {
		l.taker = pidns.HostPID(n)
	}
	switch {
	case l.flag == lease:
		if err := l.parseLease(f[3], f[4]); err != nil {
			return l, false, fmt.Errorf("%q: %w", line, err)
		}
	case f[4] == "READ":
		l.typ = unix.F_RDLCK
	case f[4] == "WRITE":
		l.typ = unix.F_WRLCK
	default:
		return l, false, failure.WithHint(failure.Unsupportedf("a lock of type %s %s is not carried", f[3], f[4]), "let the program unlock the file before the dump")
	}
	if l.start, err = strconv.ParseInt(f[7], 10, 64); err != nil {
		return l, false, fmt.Errorf("%q: %w", line, err)
	}
	if f[8] == "EOF" {
		return l, true, nil
	}
	end, err := strconv.ParseInt(f[8], 10, 64)
	if err != nil || end < l.start {
		return l, false, fmt.Errorf("%q: where does it end", line)
	}
	l.len = end - l.start + 1
	return l, true, nil
}

type saver struct {
	// holders are the host pids with POSIX locks; nil: not read yet.
	holders map[pidns.HostPID]bool
	leases  map[inode]bool // files with a lease that any opening would break; nil: not looked for yet
}

func (s *saver) observe(d *kind.Dump, p *kind.Proc) error {
	if err := s.refuseLeased(d, p); err != nil {
		return err
	}
	if p.SharesFiles != nil {
		return nil // what it holds is seen in the other
	}
	if s.holders == nil {
		b, err := os.ReadFile("/proc/locks")
		if err != nil {
			return fmt.Errorf("read locks: %w", err)
		}
		s.holders = posixHolders(b)
	}
	entries, err := s.of(d, p)
	if err != nil || d.Out == nil {
		return err
	}
	for _, e := range entries {
		if err := d.Out.Add(image.FileLocks, "", e); err != nil {
			return err
		}
	}
	return nil
}

// of gives the locks of p: those of descriptions that p is the first to
// hold, and p's own.
func (s *saver) of(d *kind.Dump, p *kind.Proc) (out []*filelock.FileLockEntry, err error) {
	own := s.holds(d, p)
	at := map[posixKey]*kind.Descriptor{} // by which descriptor a POSIX lock can be taken
	var order []posixKey
	for i := range p.Fds {
		fd := &p.Fds[i]
		first := fd.Desc.Proc == p && fd.Desc.FD == fd.FD
		lines := fd.Desc.Info.Lines
		if own && !first {
			info, err := p.FS.FDInfo(fd.FD)
			if err != nil {
				return nil, err
			}
			lines = info.Lines
		}
		for _, line := range lines {
			l, ok, err := parse(line)
			switch {
			case err != nil:
				return nil, err
			case !ok:
			case l.flag != posix && first:
				out = append(out, l.entry(l.holder(d, p, fd)))
			case l.flag == posix && own:
				// Every descriptor of the file shows it.
				k := posixKey{fd.Desc.Stat.Dev, fd.Desc.Stat.Ino, l}
				if _, ok := at[k]; !ok {
					order = append(order, k)
					at[k] = nil
				}
				if at[k] == nil && l.fits(fd.Desc.Info.Flags) {
					at[k] = fd
				}
			}
		}
	}
	for _, k := range order {
		if at[k] == nil {
			return nil, failure.WithHint(failure.Unsupportedf("no descriptor is left by which its POSIX lock could be taken again"),
				"let the program unlock the file, or open it, before the dump")
		}
		out = append(out, k.lock.entry(k.lock.holder(d, p, at[k])))
	}
	return out, nil
}

type posixKey struct {
	dev, ino uint64
	lock     lock
}

// fits: a lock for reading wants a descriptor open for reading, and so on (fcntl(2)).
func (l lock) fits(flags int) bool {
	other := unix.O_WRONLY
	if l.typ == unix.F_WRLCK {
		other = unix.O_RDONLY
	}
	return flags&unix.O_ACCMODE != other && flags&unix.O_PATH == 0
}

// holder is the process that took the lock, and is to take it again, with a
// descriptor there; or else p, which has it as fd.
func (l lock) holder(d *kind.Dump, p *kind.Proc, fd *kind.Descriptor) (*kind.Proc, int) {
	for _, q := range d.Procs {
		if q.Host != l.taker || q.Zombie {
			continue
		}
		table := q
		if q.SharesFiles != nil {
			table = q.SharesFiles
		}
		if table == p {
			return q, fd.FD
		}
		for _, other := range table.Fds {
			if l.flag != posix && other.Desc == fd.Desc {
				return q, other.FD
			}
		}
	}
	return p, fd.FD
}

func (l lock) entry(p *kind.Proc, fd int) *filelock.FileLockEntry {
	return &filelock.FileLockEntry{
		Flag: proto.Uint32(l.flag), Type: proto.Uint32(l.typ), Pid: proto.Int32(int32(p.VPID)), Fd: proto.Int32(int32(fd)),
		Start: proto.Int64(l.start), Len: proto.Int64(l.len),
	}
}

// holds tells whether p, or one that shares its descriptors, has POSIX locks.
func (s *saver) holds(d *kind.Dump, p *kind.Proc) bool {
	if s.holders[p.Host] {
		return true
	}
	for _, q := range d.Procs {
		if q.SharesFiles == p && s.holders[q.Host] {
			return true
		}
	}
	return false
}

// posixHolders reads /proc/locks. Waiting locks ("->") are no locks: the call
// that waits is made again by the kernel.
//
//	1: POSIX  ADVISORY  WRITE 8735 fe:00:3366913 10 14
func posixHolders(b []byte) map[pidns.HostPID]bool {
	out := map[pidns.HostPID]bool{}
	for line := range bytes.Lines(b) {
		f := bytes.Fields(line)
		if len(f) < 5 || string(f[1]) != "POSIX" {
			continue
		}
		if pid, err := strconv.Atoi(string(f[4])); err == nil {
			out[pidns.HostPID(pid)] = true
		}
	}
	return out
}

type restorer struct {
	locks map[pidns.VPID][]*filelock.FileLockEntry // nil: not read yet
}

func (s *restorer) restore(r *kind.Restore, t *kind.Target) error {
	if err := s.load(r); err != nil {
		return err
	}
	for _, e := range s.locks[t.VPID] {
		if err := take(r, t, e); err != nil {
			return err
		}
	}
	return nil
}

func (s *restorer) load(r *kind.Restore) error {
	if s.locks == nil {
		s.locks = map[pidns.VPID][]*filelock.FileLockEntry{}
		err := image.Each(r.In, image.FileLocks, "", func(e *filelock.FileLockEntry, _ func(int) ([]byte, error)) error {
			v := pidns.VPID(e.GetPid())
			s.locks[v] = append(s.locks[v], e)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// take adds the call that takes a lock again, without waiting for it.
func take(r *kind.Restore, t *kind.Target, e *filelock.FileLockEntry) error {
	if e.GetFlag() == lease {
		return takeLease(r, t, e)
	}
	if e.GetType() != unix.F_RDLCK && e.GetType() != unix.F_WRLCK {
		return failure.Damagedf("a lock of type %d", e.GetType())
	}
	if !slices.ContainsFunc(t.Fds, func(f *fdinfo.FdinfoEntry) bool { return int64(f.GetFd()) == int64(e.GetFd()) }) {
		return failure.Damagedf("a lock on fd %d, which it does not hold", e.GetFd())
	}
	if e.GetStart() < 0 || e.GetLen() < 0 || e.GetStart() > math.MaxInt64-e.GetLen() {
		return failure.Damagedf("a lock on %d bytes from %d", e.GetLen(), e.GetStart())
	}
	fd, sc := uint64(e.GetFd()), t.Late
	must := func(nr uintptr, args ...uint64) {
		step := sc.Must(nr, args...)
		sc.Note(step, fmt.Sprintf("take the lock on fd %d again", e.GetFd()))
		sc.Explain(step, newTaken(r, t, e).why)
	}
	switch e.GetFlag() {
	case flock:
		op := uint64(unix.LOCK_SH)
		if e.GetType() == unix.F_WRLCK {
			op = unix.LOCK_EX
		}
		must(unix.SYS_FLOCK, fd, op|unix.LOCK_NB)
	case posix:
		must(unix.SYS_FCNTL, fd, unix.F_SETLK, sc.Data(structFlock(e)))
	case ofd:
		must(unix.SYS_FCNTL, fd, unix.F_OFD_SETLK, sc.Data(structFlock(e)))
	default:
		return failure.Damagedf("a lock of kind %#x", e.GetFlag())
	}
	return nil
}

// structFlock is struct flock of a 64-bit kernel, 32 bytes: type and whence
// (SEEK_SET) 16 bits each, start at 8, length at 16, process at 24.
func structFlock(e *filelock.FileLockEntry) []byte {
	b := make([]byte, 32)
	binary.NativeEndian.PutUint16(b, uint16(e.GetType()))
	binary.NativeEndian.PutUint64(b[8:], uint64(e.GetStart()))
	binary.NativeEndian.PutUint64(b[16:], uint64(e.GetLen()))
	return b
}
