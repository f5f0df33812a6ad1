package unixsock

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	sk_packet "github.com/checkpoint-restore/go-criu/v7/crit/images/sk-packet"
	sk_unix "github.com/checkpoint-restore/go-criu/v7/crit/images/sk-unix"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
)

// world is one restore. Sockets hang together, so the first one that is asked
// for makes them all; link fills the queues and finishes them all.
type world struct {
	err     error
	loaded  bool
	linked  bool
	r       *kind.Restore
	socks   []*sock // by id
	byID    map[uint32]*sock
	byIno   map[uint32]*sock
	root    *os.File // the container's root
	private *os.File // a file system of its own for names that lead nowhere any more
	rooms   int      // directories made in it
}

// sock is one socket to be made. The other end of a connection whose peer
// is gone is one as well: it has no entry in files.img (e.GetId() is 0).
type sock struct {
	e       *sk_unix.UnixSkEntry
	x       *image.FileExtra // never nil
	peer    *sock            // nil: none, or gone
	gone    *sock            // stands in for a peer that is gone
	outside bool             // stands for one outside of the container, and is not made
	f       *os.File         // nil: not made yet
	home    place            // where its name leads
	there   *remote          // where a process has it for the moment; nil: nowhere
	paired  bool             // datagram: made by socketpair(2) with its peer
	packets []*packet
}

// standIn is a socket that only the restore needs, of the type of s.
func standIn(s *sock, name []byte) *sock {
	return &sock{x: &image.FileExtra{}, e: &sk_unix.UnixSkEntry{Type: s.e.Type, Name: name}}
}

func (s *sock) typ() int       { return int(s.e.GetType()) }
func (s *sock) stream() bool   { return s.typ() != unix.SOCK_DGRAM }
func (s *sock) named() bool    { return len(s.name()) > 0 }
func (s *sock) listens() bool  { return s.e.GetState() == stateListen }
func (s *sock) fd() int        { return int(s.f.Fd()) }
func (s *sock) path() string   { return pathOf(s.e.GetName()) }
func (s *sock) abstract() bool { return s.named() && s.path() == "" }

// name are the bytes of sun_path. CRIU keeps the NUL behind a path, too.
func (s *sock) name() []byte {
	n := s.e.GetName()
	if len(n) > 0 && n[0] != 0 {
		n = append(bytes.TrimRight(slices.Clone(n), "\x00"), 0)
	}
	return n[:min(len(n), 108)]
}

// connected: of a stream, there is a connection. Of datagrams it says nothing:
// who is connected to gets that state as well (unix_dgram_connect()).
func (s *sock) connected() bool { return s.e.GetState() == stateConnected }

func (w *world) restore(r *kind.Restore, e *fdinfo.FileEntry) (*os.File, error) {
	if !w.loaded {
		w.loaded, w.r = true, r
		if w.err = w.load(); w.err == nil {
			w.err = w.make()
		}
		if w.err != nil {
			w.closeAll()
		}
	}
	if w.err != nil {
		return nil, w.err
	}
	s := w.byID[e.GetId()]
	if s.outside {
		return nil, failure.Damagedf("unix socket %s: it is outside of the container, and a process of the image has it", shown(s.name()))
	}
	return s.f, nil
}

// load reads entries and queues and ties them together.
func (w *world) load() error {
	w.byID, w.byIno = map[uint32]*sock{}, map[uint32]*sock{}
	for _, id := range slices.Sorted(maps.Keys(w.r.Entries)) {
		e := w.r.Entries[id]
		if e.GetType() != fdinfo.FdTypes_UNIXSK {
			continue
		}
		if e.GetUsk() == nil {
			return failure.Damagedf("unix socket %d without its entry", id)
		}
		s := &sock{e: e.GetUsk(), x: w.r.Extras[id], outside: e.GetUsk().GetUflags() == image.UnixOutside}
		if s.x == nil {
			s.x = &image.FileExtra{}
		}
		if w.byIno[s.e.GetIno()] != nil {
			return failure.Damagedf("unix socket %d: another one has its inode number %d, too", id, s.e.GetIno())
		}
		w.byID[id], w.byIno[s.e.GetIno()] = s, s
		switch {
		case !s.outside && e.GetUsk().GetUflags() != 0:
			return failure.Unsupportedf("unix socket %s: one of criu's with a meaning of its own (uflags %#x)", shown(s.name()), e.GetUsk().GetUflags())
		case !s.outside:
			w.socks = append(w.socks, s)
		case !s.named():
			return failure.Damagedf("unix socket %d: it is outside of the container, and has no name", id)
		}
	}
	for _, s := range w.socks {
		if p := s.e.GetPeer(); p != 0 {
			if s.peer = w.byIno[p]; s.peer == nil {
				return failure.Damagedf("unix socket %d: its peer is not in the image", s.e.GetId())
			}
			if s.peer == s && s.stream() {
				return failure.Damagedf("unix socket %d: it is its own peer", s.e.GetId())
			}
		} else if s.stream() && s.connected() || s.x.GetPeerGone() {
			s.gone = standIn(s, s.x.GetPeerName())
		}
	}
	return w.loadQueues()
}

func (w *world) loadQueues() error {
	return image.Each(w.r.In, image.SkQueues, "", func(e *sk_packet.SkPacketEntry, data func(int) ([]byte, error)) error {
		b, err := data(int(e.GetLength()))
		if err != nil {
			return err
		}
		s := w.byID[e.GetIdFor()]
		if s == nil {
			return nil // of another kind's socket
		}
		p, err := packetOf(e, b)
		if err != nil {
			return err
		}
		s.packets = append(s.packets, p)
		return nil
	})
}

// make makes every socket. The order: names that others connect to; among
// streams, those that are accepted before those that only wait for it.
func (w *world) make() error {
	root, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the root: %w", err)
	}
	w.root = os.NewFile(uintptr(root), "/")
	for _, s := range w.socks {
		if s.leadsOut() {
			if err := s.peer.present(); err != nil {
				return err
			}
		}
	}
	for _, step := range []struct {
		of func(*sock) bool
		do func(*sock) error
	}{
		{func(s *sock) bool { return s.listens() }, w.makeListener},
		{func(s *sock) bool { return s.stream() && s.leadsOut() }, w.makeOutside},
		{func(s *sock) bool { return s.stream() && s.connected() && !s.waits() }, w.makeConnection},
		{func(s *sock) bool { return !s.stream() }, w.makeDatagram},
		{func(s *sock) bool { return s.stream() && !s.connected() }, w.makeAlone},
	} {
		for _, s := range w.socks {
			if s.f != nil || !step.of(s) {
				continue
			}
			if err := step.do(s); err != nil {
				return s.fail(err)
			}
		}
	}
	return w.makeWaiting()
}

// waits: it is connected to a listener and not accepted yet.
func (s *sock) waits() bool { return s.stream() && s.peer != nil && s.peer.listens() }

// fail names the socket where the message would not tell which one it was.
func (s *sock) fail(err error) error {
	if err == nil || !s.named() {
		return err
	}
	return fmt.Errorf("%s: %w", shown(s.e.GetName()), err)
}

// keep takes a new descriptor as the socket's, with its status flags.
func (s *sock) keep(fd int) error {
	f, err := kind.NewFile(fd, s.e.GetFlags(), "unix socket")
	if err != nil {
		return err
	}
	s.f = f
	return nil
}

// closeAll is for when the driver will get none of them.
func (w *world) closeAll() {
	for _, s := range w.socks {
		s.f.Close()
	}
	w.done()
}

// done lets go of what only the making needed.
func (w *world) done() {
	for _, s := range w.socks {
		s.leave()
		if s.gone != nil {
			s.gone.f.Close()
		}
	}
	w.root.Close()
	w.private.Close()
	w.root, w.private = nil, nil
}
