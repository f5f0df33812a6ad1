package restore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"golang.org/x/sys/unix"

	"ckpt/container"
	"ckpt/failure"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/procfs"
	"ckpt/tracee"
)

// file is an open file description of the image, and whether it is made.
type file struct {
	f      *os.File
	err    error
	making bool
	inside bool // its kind's Inside has run
	async  bool // O_ASYNC has been set by a process
}

// kindFor is the kind that restores an entry.
func (s *session) kindFor(e *fdinfo.FileEntry) (*kind.File, error) {
	for i := range s.kinds.Files {
		k := &s.kinds.Files[i]
		if k.Type == e.GetType() && k.Restore != nil && (k.Restores == nil || k.Restores(e)) {
			return k, nil
		}
	}
	return nil, failure.Unsupportedf("file %d: files of type %v cannot be restored", e.GetId(), e.GetType())
}

// file is Restore.File. It is called on the inner thread.
func (s *session) file(id uint32) (*os.File, error) {
	f := s.files[id]
	if f == nil {
		f = &file{}
		s.files[id] = f
	}
	if f.f != nil || f.err != nil {
		return f.f, f.err
	}
	e := s.r.Entries[id]
	if e == nil {
		return nil, failure.Damagedf("file %d is not in files.img", id)
	}
	if f.making {
		return nil, failure.Damagedf("file %d needs itself", id)
	}
	f.making = true
	k, err := s.kindFor(e)
	if err == nil {
		err = s.on(s.innerOf(id), func() (err error) {
			f.f, err = k.Restore(s.r, e)
			return err
		})
		if err != nil {
			err = named(k, err)
		}
	}
	f.making, f.err = false, err
	return f.f, err
}

// innerOf is the thread that sees the mounts through which a file was opened.
func (s *session) innerOf(id uint32) *inner {
	if n := s.mounters[s.r.Manifest.GetFileMounts()[id]]; n != nil {
		return n
	}
	return s.inner
}

// named puts the kind in front of an error, unless that names its own subject.
func named(k *kind.File, err error) error {
	if _, ok := errors.AsType[*failure.Error](err); ok {
		return err
	}
	return fmt.Errorf("%s: %w", k.Name, err)
}

// openFiles makes every file that a process holds as a descriptor, then lets
// the kinds link them with each other.
func (s *session) openFiles() error {
	holder, fd := s.holders()
	ids := slices.Sorted(maps.Keys(holder))
	var errs []error
	for _, id := range ids {
		_, err := s.file(id)
		if err != nil {
			errs = append(errs, s.failFile(holder[id], fd[id], err))
		}
		if errors.Is(err, unix.EMFILE) {
			break // it would be said of every other
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(s.r.Entries)) {
		e := s.r.Entries[id]
		k, err := s.kindFor(e)
		if err != nil || k.Link == nil {
			continue
		}
		f := s.files[id]
		if f == nil || f.f == nil {
			continue
		}
		if err := s.on(s.innerOf(id), func() error { return k.Link(s.r, e, f.f) }); err != nil {
			return &failure.Error{Doing: "restore", What: fmt.Sprintf("%s %d", k.Name, id), Err: err}
		}
	}
	return s.openConsole()
}

// holders gives, for every file that a process holds as a descriptor, the
// first of them and its number there.
func (s *session) holders() (map[uint32]*kind.Target, map[uint32]uint32) {
	holder, fd := map[uint32]*kind.Target{}, map[uint32]uint32{}
	for _, t := range s.r.Targets {
		for _, e := range t.Fds {
			if holder[e.GetId()] == nil {
				holder[e.GetId()], fd[e.GetId()] = t, e.GetFd()
			}
		}
	}
	return holder, fd
}

// failFile tells of a descriptor, or of the file itself where that is the
// error's subject.
func (s *session) failFile(t *kind.Target, fd uint32, err error) error {
	if e, ok := errors.AsType[*failure.Error](err); ok && e.Doing == "" {
		told := *e
		told.Doing, told.VPID, told.Comm = "restore", int(t.VPID), t.TC.GetComm()
		return &told
	}
	return s.fail(t, fmt.Sprintf("fd %d", fd), err)
}

// table is a descriptor table being filled, as the scripts will leave it.
type table struct {
	open map[uint64]bool
	self uint64 // where the way to ckpt is kept until the end: its pidfd, or a socket
	// receive adds the call that receives a file; nil: it is taken.
	receive func(sc *tracee.Script, at uint64, f *os.File)
}

func (t *table) lowest() uint64 {
	for n := uint64(0); ; n++ {
		if !t.open[n] {
			return n
		}
	}
}

// newTable empties the table of a bare child but for the way to ckpt, which
// goes to a number that the process does not use.
func (s *session) newTable(t *kind.Target) (*table, error) {
	way := uint64(container.SelfFD)
	tab := &table{open: map[uint64]bool{}, self: 64}
	if s.places[t.VPID].far() {
		way, tab.receive = parcelFD, s.receive
	}
	for _, e := range t.Fds {
		tab.self = max(tab.self, uint64(e.GetFd())+1)
	}
	sc := t.Main
	// The limit of the image is set at the very end. Until then the soft one
	// is as high as it can be.
	most, err := s.openFilesOf(t)
	if err != nil {
		return nil, fmt.Errorf("read the limit on open files: %w", err)
	}
	if tab.self >= most {
		return nil, failure.WithHint(failure.Unsupportedf("it holds fd %d, and at most %d are allowed here", tab.self-1, most), "raise the limit on open files (ulimit -Hn)")
	}
	limit := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, most), most)
	sc.Note(sc.Must(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, sc.Data(limit), 0), "raise the limit on open files")
	sc.Note(sc.Must(unix.SYS_DUP3, way, tab.self, unix.O_CLOEXEC), "keep the way to ckpt")
	sc.Must(unix.SYS_CLOSE_RANGE, 0, tab.self-1, 0)
	sc.Must(unix.SYS_CLOSE_RANGE, tab.self+1, uint64(^uint32(0)), 0)
	tab.open[tab.self] = true
	return tab, nil
}

// openFilesOf is the hard limit on open files of a bare child. prlimit(2) would
// ask for rights over one of another user.
func (s *session) openFilesOf(t *kind.Target) (uint64, error) {
	p, err := procfs.OpenAt(s.r.HostProc, t.Host.String())
	if err != nil {
		return 0, err
	}
	defer p.Close()
	all, err := p.Limits()
	if err != nil {
		return 0, err
	}
	return all[unix.RLIMIT_NOFILE].Hard, nil
}

// fetch adds the call that takes f from ckpt.
func (tab *table) fetch(sc *tracee.Script, f *os.File) uint64 {
	fd := tab.lowest()
	if tab.receive != nil {
		tab.receive(sc, tab.self, f)
	} else {
		sc.Note(sc.Must(unix.SYS_PIDFD_GETFD, tab.self, uint64(f.Fd()), 0), "take "+f.Name())
	}
	tab.open[fd] = true
	return fd
}

func (tab *table) drop(sc *tracee.Script, fd uint64) {
	sc.Must(unix.SYS_CLOSE, fd)
	delete(tab.open, fd)
}

// install adds the calls that fill the descriptor table of t.
func (s *session) install(t *kind.Target, tab *table) error {
	for _, e := range t.Fds {
		f := s.files[e.GetId()]
		want := uint64(e.GetFd())
		got := tab.fetch(t.Main, f.f)
		cloexec := e.GetFlags()&unix.FD_CLOEXEC != 0
		if got == want {
			// pidfd_getfd(2) sets close-on-exec.
			if !cloexec {
				t.Main.Must(unix.SYS_FCNTL, want, unix.F_SETFD, 0)
			}
			continue
		}
		flag := uint64(0)
		if cloexec {
			flag = unix.O_CLOEXEC
		}
		t.Main.Note(t.Main.Must(unix.SYS_DUP3, got, want, flag), fmt.Sprintf("put fd %d in place", want))
		tab.open[want] = true
		tab.drop(t.Main, got)
	}
	if err := s.async(t); err != nil {
		return err
	}
	for _, e := range t.Fds {
		f, entry := s.files[e.GetId()], s.r.Entries[e.GetId()]
		k, err := s.kindFor(entry)
		if err != nil {
			return err
		}
		if k.Inside == nil || f.inside {
			continue
		}
		f.inside = true
		if err := k.Inside(s.r, entry, int(e.GetFd()), t.Main); err != nil {
			return s.fail(t, fmt.Sprintf("fd %d", e.GetFd()), err)
		}
	}
	return nil
}

// async adds the calls that set O_ASYNC anew where it is set. The signal's
// si_fd is the number through which that was done (fasync_insert_entry() in
// fs/fcntl.c), at first one of ckpt's. The kernel does not show the number
// that the program used: it is taken to be the first that the owner holds, or
// the first of all if the owner holds none.
func (s *session) async(t *kind.Target) error {
	for _, e := range t.Fds {
		f := s.files[e.GetId()]
		if f.async {
			continue
		}
		flags, err := unix.FcntlInt(f.f.Fd(), unix.F_GETFL, 0)
		if err == nil && flags&unix.O_ASYNC != 0 {
			var at *kind.Target
			if at, err = s.setsAsync(e.GetId(), f.f); at == t {
				f.async = true
				t.Main.Must(unix.SYS_FCNTL, uint64(e.GetFd()), unix.F_SETFL, uint64(flags&^unix.O_ASYNC))
				t.Main.Note(t.Main.Must(unix.SYS_FCNTL, uint64(e.GetFd()), unix.F_SETFL, uint64(flags)), fmt.Sprintf("set O_ASYNC of fd %d", e.GetFd()))
			}
		}
		if err != nil {
			return s.fail(t, fmt.Sprintf("fd %d", e.GetFd()), fmt.Errorf("read status flags: %w", err))
		}
	}
	return nil
}

// setsAsync is the process that sets O_ASYNC of a file.
func (s *session) setsAsync(id uint32, f *os.File) (*kind.Target, error) {
	owner, err := kernel.FileOwner(f.Fd())
	if err != nil {
		return nil, err
	}
	var first *kind.Target
	for _, t := range s.r.Targets {
		if !t.OwnsFiles || !slices.ContainsFunc(t.Fds, func(e *fdinfo.FdinfoEntry) bool { return e.GetId() == id }) {
			continue
		}
		if owner.PID != 0 && pidns.HostPID(owner.PID) == t.Host {
			return t, nil
		}
		if first == nil {
			first = t
		}
	}
	return first, nil
}
