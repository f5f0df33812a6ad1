package unixsock

import (
	"errors"
	"fmt"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	sk_opts "github.com/checkpoint-restore/go-criu/v7/crit/images/sk-opts"
	sk_unix "github.com/checkpoint-restore/go-criu/v7/crit/images/sk-unix"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/kind/sockopt"
)

// saver is one dump.
type saver struct {
	table   table             // nil: not read yet
	dumping bool              // table was read after the processes had stopped
	ours    map[uint32]bool   // inodes of the container's sockets
	waits   map[uint32]*info  // by inode of one not accepted yet: the listener
	anew    map[uint32][]byte // by inode of one that leads out: the name to connect it to
	spare   uint32            // the last number given to one outside
	all     []*saved
	pool    flight // descriptors found in queues
}

// saved is one socket being saved.
type saved struct {
	desc    *kind.Desc // kept until finish has ended
	info    *info
	entry   *sk_unix.UnixSkEntry
	packets []*packet
}

// look reads the list of sockets, once while checking and once more when
// the processes have stopped.
func (s *saver) look(d *kind.Dump, dumping bool) error {
	if s.table != nil && (s.dumping || !dumping) {
		return nil
	}
	t, err := sockets(d)
	if err != nil {
		return err
	}
	s.table, s.dumping, s.ours, s.waits = t, dumping, map[uint32]bool{}, map[uint32]*info{}
	s.anew = map[uint32][]byte{}
	for _, l := range t {
		for _, ino := range l.pending {
			s.waits[ino] = l
		}
	}
	for _, p := range d.Procs {
		for _, c := range p.Fds {
			s.ours[uint32(c.Desc.Stat.Ino)] = true
		}
	}
	return nil
}

// find is what the kernel shows of desc.
func (s *saver) find(desc *kind.Desc) (*info, error) {
	i := s.table[uint32(desc.Stat.Ino)]
	if i == nil {
		return nil, failure.WithHint(failure.Unsupportedf("a unix socket of another network namespace"), "dump the container that the namespace belongs to")
	}
	if len(i.name) == 108 && i.name[0] != 0 && i.name[107] != 0 {
		return nil, failure.Unsupportedf("a unix socket with a name of 108 bytes, more than bind(2) takes back")
	}
	return i, nil
}

func (s *saver) refuse(d *kind.Dump, desc *kind.Desc) error {
	if err := s.look(d, false); err != nil {
		return err
	}
	unclear := s.somethingQueued() // an end may be on its way in a queue: finish knows
	if unclear && d.Out == nil {
		for _, n := range d.External.Names(farSort) {
			d.External.Use(farSort, n)
		}
	}
	if err := sockopt.CheckOptions(d, desc); err != nil {
		return err
	}
	i, err := s.find(desc)
	if err != nil {
		return err
	}
	if i.typ == unix.SOCK_STREAM {
		if err := urgent(int(desc.File.Fd())); err != nil {
			return err
		}
	}
	if i.inFiles() {
		if _, err := locate(d, desc, i); err != nil {
			return err
		}
	}
	if err := s.check(d, desc, i); err != nil && (!unclear || s.certain(d, i, err)) {
		return err
	}
	return nil
}

// certain tells of what is refused whether it is so whatever is on its way in
// queues: that waits to be read, or the other end is seen to be somebody's.
func (s *saver) certain(d *kind.Dump, i *info, err error) bool {
	if _, ok := errors.AsType[*kind.Busy](err); ok {
		return true
	}
	end := i.peer
	if l := s.waits[i.ino]; l != nil {
		end = l.ino
	}
	return !s.ours[end] && holderOf(d, end) != 0
}

func (s *saver) somethingQueued() bool {
	for ino := range s.ours {
		if i := s.table[ino]; i != nil && i.inq > 0 && i.state != stateListen {
			return true
		}
	}
	return false
}

// check refuses what leads out of the container or hides from it.
func (s *saver) check(d *kind.Dump, desc *kind.Desc, i *info) error {
	switch {
	case i.state == stateListen:
		return s.checkPending(d, i)
	case !i.hasPeer:
		return nil
	case i.peer != 0:
		return s.checkPeer(d, desc, i)
	case s.waiting(i):
		return s.checkWaiting(d, desc, i)
	}
	return nil // the peer has been closed
}

func (s *saver) checkPeer(d *kind.Dump, desc *kind.Desc, i *info) error {
	peer := s.table[i.peer]
	if peer == nil || !s.ours[i.peer] {
		return s.leadsOut(d, desc, i)
	}
	if !i.stream() && peer.peer != i.ino && len(peer.name) == 0 {
		return failure.Unsupportedf("unix socket: its peer has no name and another peer, so that it cannot be connected again")
	}
	return nil
}

// checkWaiting: i waits to be accepted.
func (s *saver) checkWaiting(d *kind.Dump, desc *kind.Desc, i *info) error {
	l := s.waits[i.ino]
	if l == nil || !s.ours[l.ino] {
		return s.leadsOut(d, desc, i)
	}
	if i.outq > 0 {
		return letAccept(d, l, failure.Unsupportedf("unix socket: data was sent to %s before the connection was accepted, and the kernel shows it to nobody", shown(l.name)))
	}
	return nil
}

// letAccept lets the program accept what waits at l.
func letAccept(d *kind.Dump, l *info, err error) error {
	err = failure.WithHint(err, "try again once the server has accepted it")
	for _, p := range d.Procs {
		for _, c := range p.Fds {
			if uint32(c.Desc.Stat.Ino) != l.ino {
				continue
			}
			return &kind.Busy{Err: err, Holders: d.Holders(c.Desc), Done: func() bool {
				shows, err := kernel.Poll(c.Desc.File.Fd(), unix.POLLIN)
				return err == nil && shows&unix.POLLIN == 0
			}}
		}
	}
	return err // it is in flight itself
}

// waiting tells one that waits to be accepted from one whose peer has been
// closed, which shuts down both halves.
func (s *saver) waiting(i *info) bool {
	return i.stream() && i.hasPeer && i.peer == 0 && (i.shutdown != 3 || s.waits[i.ino] != nil)
}

func (s *saver) checkPending(d *kind.Dump, l *info) error {
	for _, ino := range l.pending {
		if ino == 0 {
			return letAccept(d, l, failure.Unsupportedf("unix socket: a client of %s has gone before it was accepted; what it sent is shown to nobody", shown(l.name)))
		}
		if !s.ours[ino] {
			return aClient(l, client(d, nil, ino), "is outside the container, and waits to be accepted")
		}
	}
	return nil
}

func (s *saver) dump(d *kind.Dump, desc *kind.Desc) (*fdinfo.FileEntry, error) {
	if err := s.look(d, true); err != nil {
		return nil, err
	}
	i, err := s.find(desc)
	if err != nil {
		return nil, err
	}
	s.ours[i.ino] = true
	owner, err := d.Owner(desc)
	if err != nil {
		return nil, err
	}
	opts, err := sockopt.Dump(desc.File.Fd())
	if err != nil {
		return nil, err
	}
	e := &sk_unix.UnixSkEntry{
		Id: proto.Uint32(desc.ID), Ino: proto.Uint32(i.ino), Type: proto.Uint32(uint32(i.typ)), State: proto.Uint32(uint32(i.state)),
		Flags: proto.Uint32(desc.StatusFlags()), Uflags: proto.Uint32(0), Backlog: proto.Uint32(0), Peer: proto.Uint32(i.peer),
		Fown: owner, Opts: opts, Name: append([]byte{}, i.name...), // required, if empty
	}
	if l := s.waits[i.ino]; l != nil {
		e.Peer = proto.Uint32(l.ino) // as CRIU has it
	}
	if i.state == stateListen {
		e.Backlog = proto.Uint32(i.outq)
	}
	if i.shutdown != 0 {
		e.Shutdown = sk_opts.SkShutdown(i.shutdown).Enum()
	}
	if err := s.dumpName(d, desc, i, e); err != nil {
		return nil, err
	}
	if err := s.extra(d, desc, i); err != nil {
		return nil, err
	}
	kept, err := desc.Keep()
	if err != nil {
		return nil, err
	}
	s.all = append(s.all, &saved{desc: kept, info: i, entry: e})
	return &fdinfo.FileEntry{Usk: e}, nil
}

// extra saves what the entry has no field for.
func (s *saver) extra(d *kind.Dump, desc *kind.Desc, i *info) error {
	x := &image.FileExtra{Id: desc.ID}
	var err error
	if x.SockOptions, err = sockopt.More(desc.File.Fd()); err != nil {
		return err
	}
	if x.PeerCred, err = peerCred(d, desc); err != nil {
		return err
	}
	if i.hasPeer && i.peer == 0 && !s.waiting(i) {
		x.PeerGone = !i.stream() // a stream's state and peer tell
		// ENOTCONN where even the name is gone.
		if x.PeerName, err = kernel.UnixPeerName(int(desc.File.Fd())); err != nil && !errors.Is(err, unix.ENOTCONN) {
			return fmt.Errorf("read its peer's name: %w", err)
		}
	}
	if i.state == stateListen {
		x.Pending = i.pending
	}
	if x.WasReset, err = resetPending(desc, i); err != nil {
		return err
	}
	if len(x.SockOptions)+len(x.PeerName)+len(x.Pending) == 0 && x.PeerCred == nil && !x.WasReset && !x.PeerGone {
		return nil
	}
	return d.Out.Add(image.FilesExtra, "", x)
}

// resetPending tells whether a stream whose peer was closed with something
// unread will say ECONNRESET: poll(2) shows a pending error and leaves it.
func resetPending(desc *kind.Desc, i *info) (bool, error) {
	if !i.stream() || i.shutdown != 3 || !i.hasPeer || i.peer != 0 {
		return false, nil
	}
	shows, err := kernel.Poll(desc.File.Fd(), 0)
	if err != nil {
		return false, fmt.Errorf("poll it: %w", err)
	}
	return shows&unix.POLLERR != 0, nil
}

// ucred are user and group as the container sees them.
func ucred(d *kind.Dump, uid, gid uint32) (*image.Ucred, error) {
	i, err := d.Inode(&unix.Stat_t{Uid: uid, Gid: gid})
	if err != nil {
		return nil, err
	}
	return &image.Ucred{Uid: i.GetUid(), Gid: i.GetGid()}, nil
}
