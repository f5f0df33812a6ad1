// Package epoll saves epoll(7) instances.
//
// What the kernel shows: a line of fdinfo for each file watched: the
// descriptor number it was added under, events, data, position, inode and
// device. An instance watches open file descriptions, not descriptors: the
// number may have been closed since, or lead to another file now. Which file
// it is tells kcmp(2) with KCMP_EPOLL_TFD (Linux 4.13); it may be held under
// another number, by another process or by a socket's queue.
//
// What is saved: every watch with its number, and beside CRIU's entry the id
// of the file it watches; busy polling (EPIOCSPARAMS); status flags, owner. A watch disarmed by
// EPOLLONESHOT shows no events in fdinfo and stays disarmed.
//
// What is lost: see Limits.
//
// Needs: CONFIG_KCMP.
package epoll

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/eventpoll"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
)

const (
	link       = "anon_inode:[eventpoll]"
	signalLink = "anon_inode:[signalfd]"
)

// Kind is epoll(7).
func Kind() kind.File {
	return kind.File{
		Name:    "epoll",
		Saves:   "every watch, also of a closed or duplicated descriptor and of another epoll; EPOLLONESHOT, EPOLLET, EPOLLEXCLUSIVE; busy polling",
		Refuses: "a file that no process holds any more",
		Needs:   "CONFIG_KCMP",
		Type:    fdinfo.FdTypes_EVENTPOLL,
		Owns:    func(d *kind.Desc) bool { return d.Link == link && !d.OnlyPath() },
		Refuse:  refuse,
		Dump:    dump,
		Restore: restore,
		Link:    linkTargets,
		Inside:  inside,
		Limits: "a file that was ready before the dump may be reported once more after the restore, also with EPOLLET; " +
			"a disarmed EPOLLONESHOT watch whose file is not ready at the restore may still report an error or a hang-up",
	}
}

// watch is a line of fdinfo.
type watch struct {
	tfd    int
	events uint32
	data   uint64
	pos    int64
	ino    uint64
	dev    uint32 // as the kernel encodes it: major<<20 | minor
}

func parse(lines []string) ([]watch, error) {
	var out []watch
	for _, l := range lines {
		if !strings.HasPrefix(l, "tfd:") {
			continue
		}
		var w watch
		_, err := fmt.Sscanf(l, "tfd: %d events: %x data: %x pos:%d ino:%x sdev:%x", &w.tfd, &w.events, &w.data, &w.pos, &w.ino, &w.dev)
		if err != nil {
			return nil, fmt.Errorf("read fdinfo %q: %w", l, err)
		}
		out = append(out, w)
	}
	return out, nil
}

func refuse(d *kind.Dump, desc *kind.Desc) error {
	ws, err := parse(desc.Info.Lines)
	if err != nil {
		return err
	}
	_, err = targets(d, desc, ws)
	return err
}

// busyPoll is nil without busy polling, as on a kernel that has none.
func busyPoll(desc *kind.Desc) *image.BusyPoll {
	p, err := kernel.EpollParamsOf(int(desc.File.Fd()))
	if err != nil || p == (kernel.EpollParams{}) {
		return nil
	}
	return &image.BusyPoll{Usecs: p.BusyPollUsecs, Budget: uint32(p.BusyPollBudget), Prefer: p.PreferBusyPoll != 0}
}

func setBusyPoll(fd int, b *image.BusyPoll) error {
	if b == nil {
		return nil
	}
	p := kernel.EpollParams{BusyPollUsecs: b.GetUsecs(), BusyPollBudget: uint16(b.GetBudget())}
	if b.GetPrefer() {
		p.PreferBusyPoll = 1
	}
	err := kernel.SetEpollParams(fd, p)
	switch {
	case errors.Is(err, unix.EPERM):
		return failure.WithHint(failure.Unsupportedf("busy polling of %d packets at a time needs CAP_NET_ADMIN", b.GetBudget()), "restore as root")
	case errors.Is(err, unix.ENOTTY), errors.Is(err, unix.EINVAL):
		return failure.Unsupportedf("epoll with busy polling (EPIOCSPARAMS) needs Linux 6.9")
	case err != nil:
		return fmt.Errorf("set busy polling (EPIOCSPARAMS): %w", err)
	}
	return nil
}

// targets finds the file behind each watch among those of the container.
func targets(d *kind.Dump, desc *kind.Desc, ws []watch) ([]*kind.Desc, error) {
	all := known(d)
	nth := map[int]int{}
	out := make([]*kind.Desc, len(ws))
	var refused []error
	for i, w := range ws {
		n := nth[w.tfd]
		nth[w.tfd]++
		t, err := target(desc, w, n, all)
		switch {
		case err != nil:
			return nil, fmt.Errorf("find the file watched as fd %d (kcmp): %w", w.tfd, err)
		case t == nil:
			refused = append(refused, failure.WithHint(
				failure.Unsupportedf("epoll watches a file, added as fd %d, that no process of the container holds any more", w.tfd),
				"remove a descriptor from epoll (EPOLL_CTL_DEL) before it is closed or handed away"))
		case t.Link == signalLink && !holds(desc.Proc, w.tfd, t):
			refused = append(refused, failure.WithHint(
				failure.Unsupportedf("epoll watches a signalfd added as fd %d, which pid %d has closed since", w.tfd, desc.Proc.VPID),
				"remove it from epoll (EPOLL_CTL_DEL) before it is closed"))
		}
		out[i] = t
	}
	return out, errors.Join(refused...)
}

// holds: a signalfd can be watched again only by the process itself, under
// the number it has there (see inside).
func holds(p *kind.Proc, fd int, desc *kind.Desc) bool {
	for _, c := range p.Fds {
		if c.FD == fd {
			return c.Desc == desc
		}
	}
	return false
}

// known lists every open file description that a descriptor leads to.
func known(d *kind.Dump) []kind.Descriptor {
	var out []kind.Descriptor
	for _, p := range d.Procs {
		out = append(out, p.Fds...)
	}
	return out
}

// target tries the likeliest first: the process's own descriptor of that
// number, any of that number, the same inode, then all others.
func target(desc *kind.Desc, w watch, nth int, all []kind.Descriptor) (*kind.Desc, error) {
	tried := map[*kind.Desc]bool{}
	for _, likely := range []func(kind.Descriptor) bool{
		func(c kind.Descriptor) bool { return c.FD == w.tfd && c.Desc.Proc == desc.Proc },
		func(c kind.Descriptor) bool { return c.FD == w.tfd },
		func(c kind.Descriptor) bool { return c.Desc.Stat.Ino == w.ino },
		func(kind.Descriptor) bool { return true },
	} {
		for _, c := range all {
			if tried[c.Desc] || !likely(c) {
				continue
			}
			tried[c.Desc] = true
			same, err := kernel.Watches(int(desc.File.Fd()), w.tfd, nth, int(c.Desc.File.Fd()))
			if err != nil || same {
				return c.Desc, err
			}
		}
	}
	return nil, nil
}

func dump(d *kind.Dump, desc *kind.Desc) (*fdinfo.FileEntry, error) {
	ws, err := parse(desc.Info.Lines)
	if err != nil {
		return nil, err
	}
	ts, err := targets(d, desc, ws)
	if err != nil {
		return nil, err
	}
	owner, err := d.Owner(desc)
	if err != nil {
		return nil, err
	}
	e := &eventpoll.EventpollFileEntry{Id: proto.Uint32(desc.ID), Flags: proto.Uint32(desc.StatusFlags()), Fown: owner}
	extra := &image.FileExtra{Id: desc.ID, BusyPoll: busyPoll(desc)}
	for i, w := range ws {
		e.Tfd = append(e.Tfd, &eventpoll.EventpollTfdEntry{
			Id: proto.Uint32(desc.ID), Tfd: proto.Uint32(uint32(w.tfd)), Events: proto.Uint32(w.events), Data: proto.Uint64(w.data),
			Dev: proto.Uint32(w.dev), Inode: proto.Uint64(w.ino), Pos: proto.Uint64(uint64(w.pos)),
		})
		extra.EpollFiles = append(extra.EpollFiles, ts[i].ID)
	}
	if len(ws) > 0 || extra.BusyPoll != nil {
		if err := d.Out.Add(image.FilesExtra, "", extra); err != nil {
			return nil, err
		}
	}
	return &fdinfo.FileEntry{Epfd: e}, nil
}

func restore(r *kind.Restore, e *fdinfo.FileEntry) (*os.File, error) {
	ep := e.GetEpfd()
	if ep == nil {
		return nil, failure.Damagedf("an epoll instance without its entry")
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make it (epoll_create1): %w", err)
	}
	f, err := kind.NewFile(fd, ep.GetFlags(), link)
	if err != nil {
		return nil, err
	}
	err = setBusyPoll(fd, r.Extras[e.GetId()].GetBusyPoll())
	if err == nil {
		err = r.RestoreOwner(f, ep.GetFown())
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
