package epoll

import (
	"encoding/binary"
	"fmt"
	"os"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/eventpoll"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/tracee"
)

// Of whoever calls epoll_ctl(2) the kernel keeps only the descriptor number.
// So ckpt adds the files itself, from a thread with a table of descriptors of
// its own, in which any number can be had. Only a signalfd reports the
// signals of the process that added it: those are left to Inside.

// addition is a file to be watched.
type addition struct {
	tfd  int
	file *os.File
	ev   *eventpoll.EventpollTfdEntry
}

// private are the bits of events that are no events: they stay when
// EPOLLONESHOT disarms (EP_PRIVATE_BITS of fs/eventpoll.c).
const private = unix.EPOLLWAKEUP | unix.EPOLLONESHOT | unix.EPOLLET | unix.EPOLLEXCLUSIVE

func (a addition) disarmed() bool {
	return a.ev.GetEvents()&unix.EPOLLONESHOT != 0 && a.ev.GetEvents()&^private == 0
}

func linkTargets(r *kind.Restore, e *fdinfo.FileEntry, f *os.File) error {
	var early, late []addition
	for i, t := range e.GetEpfd().GetTfd() {
		id, err := fileOf(r, e, i)
		if err != nil {
			return err
		}
		if r.Entries[id].GetType() == fdinfo.FdTypes_SIGNALFD {
			continue
		}
		file, err := r.File(id)
		if err != nil {
			return err
		}
		a := addition{int(t.GetTfd()), file, t}
		// Before the others: a disarmed one has to fire once, alone.
		if a.disarmed() {
			early = append(early, a)
		} else {
			late = append(late, a)
		}
	}
	if len(early)+len(late) == 0 {
		return nil
	}
	return kernel.OnThread(func() error {
		if err := unix.Unshare(unix.CLONE_FILES); err != nil {
			return fmt.Errorf("get a table of descriptors (unshare): %w", err)
		}
		for _, a := range append(early, late...) {
			if err := a.add(int(f.Fd())); err != nil {
				return fmt.Errorf("watch %s as fd %d: %w", a.file.Name(), a.tfd, err)
			}
		}
		return nil
	})
}

// fileOf is the entry that watch i is of. An image of criu's has only the
// number, in the table of the processes that hold the instance.
func fileOf(r *kind.Restore, e *fdinfo.FileEntry, i int) (uint32, error) {
	tfd := e.GetEpfd().GetTfd()
	if ids := r.Extras[e.GetId()].GetEpollFiles(); len(ids) == len(tfd) {
		if r.Entries[ids[i]] == nil {
			return 0, failure.Damagedf("epoll watches file %d, which the image does not hold", ids[i])
		}
		return ids[i], nil
	}
	for _, t := range r.Targets {
		holds, id := false, uint32(0)
		for _, d := range t.Fds {
			holds = holds || d.GetId() == e.GetId()
			if d.GetFd() == tfd[i].GetTfd() {
				id = d.GetId()
			}
		}
		if holds && r.Entries[id] != nil {
			return id, nil
		}
	}
	return 0, failure.Damagedf("epoll watches fd %d, which its processes do not have", tfd[i].GetTfd())
}

// add watches a.file under the number a.tfd. What stands at that number in
// ckpt, perhaps a descriptor of Go's own runtime, is put back before anything
// else can run on this thread: between the two there are raw system calls only.
// Preconditions: the calling thread has a table of descriptors of its own.
func (a addition) add(epfd int) error {
	ep, err := spare(epfd, a.tfd)
	if err != nil {
		return err
	}
	defer unix.Close(ep)
	src, err := spare(int(a.file.Fd()), a.tfd)
	if err != nil {
		return err
	}
	defer unix.Close(src)
	ev := event(a.ev.GetEvents(), a.ev.GetData())
	ready := uint32(0)
	if a.disarmed() {
		ready = readiness(src)
		ev.Events |= ready
	}
	if err := a.ctl(ep, src, ev); err != nil {
		return err
	}
	if ready == 0 {
		return nil
	}
	// Firing disarms it. No other watch can be ready yet.
	var got [1]unix.EpollEvent
	if _, err := unix.EpollWait(ep, got[:], 0); err != nil {
		return fmt.Errorf("disarm it (epoll_wait): %w", err)
	}
	return nil
}

func (a addition) ctl(ep, src int, ev *unix.EpollEvent) error {
	old, flags := -1, 0
	if f, err := unix.FcntlInt(uintptr(a.tfd), unix.F_GETFD, 0); err == nil {
		if old, err = spare(a.tfd, a.tfd); err != nil {
			return err
		}
		defer unix.Close(old)
		flags = f & unix.FD_CLOEXEC * unix.O_CLOEXEC
	}
	if _, _, e := unix.RawSyscall(unix.SYS_DUP3, uintptr(src), uintptr(a.tfd), unix.O_CLOEXEC); e != 0 {
		return fmt.Errorf("get that number (dup3): %w", e)
	}
	err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, a.tfd, ev) // raw as well
	if old >= 0 {
		_, _, _ = unix.RawSyscall(unix.SYS_DUP3, uintptr(old), uintptr(a.tfd), uintptr(flags)) // cannot fail: the number is in use
	} else {
		_, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(a.tfd), 0, 0)
	}
	if err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// spare duplicates fd to another number than tfd.
func spare(fd, tfd int) (int, error) {
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil && n == tfd {
		n, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, tfd+1)
		unix.Close(tfd)
	}
	if err != nil {
		return -1, fmt.Errorf("duplicate it: %w", err)
	}
	return n, nil
}

// readiness is what the file is ready for now, in epoll's bits, which are
// those of poll(2).
func readiness(fd int) uint32 {
	is, err := kernel.Poll(uintptr(fd), unix.POLLIN|unix.POLLOUT|unix.POLLPRI|unix.POLLRDHUP)
	if err != nil {
		return 0
	}
	return uint32(is) & 0xffff
}

func event(events uint32, data uint64) *unix.EpollEvent {
	return &unix.EpollEvent{Events: events, Fd: int32(uint32(data)), Pad: int32(uint32(data >> 32))}
}

// inside adds the signalfds, in the process itself.
func inside(r *kind.Restore, e *fdinfo.FileEntry, fd int, s *tracee.Script) error {
	for i, t := range e.GetEpfd().GetTfd() {
		id, err := fileOf(r, e, i)
		if err != nil {
			return err
		}
		if r.Entries[id].GetType() != fdinfo.FdTypes_SIGNALFD {
			continue
		}
		if !holdsBoth(r, e.GetId(), uint32(fd), id, t.GetTfd()) {
			return failure.Unsupportedf("epoll watches a signalfd added as fd %d, which is another file now", t.GetTfd())
		}
		ev, err := binary.Append(nil, binary.NativeEndian, event(t.GetEvents(), t.GetData()))
		if err != nil {
			return err
		}
		n := s.Must(unix.SYS_EPOLL_CTL, uint64(fd), unix.EPOLL_CTL_ADD, uint64(t.GetTfd()), s.Data(ev))
		s.Note(n, fmt.Sprintf("watch signalfd %d", t.GetTfd()))
	}
	return nil
}

// holdsBoth tells whether the first process that has the instance as epfd
// still has the watched file under its number.
func holdsBoth(r *kind.Restore, ep, epfd, file, tfd uint32) bool {
	for _, t := range r.Targets {
		a, b := false, false
		for _, d := range t.Fds {
			a = a || d.GetId() == ep && d.GetFd() == epfd
			b = b || d.GetId() == file && d.GetFd() == tfd
		}
		if a {
			return b
		}
	}
	return false
}
