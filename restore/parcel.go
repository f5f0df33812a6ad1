package restore

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"ckpt/container"
	"ckpt/pidns"
	"ckpt/tracee"
)

// A process in a user namespace made inside has no rights over ckpt, and so
// cannot take files from it by pidfd_getfd(2). It gets them as messages
// (SCM_RIGHTS) on a socket that all bare children have from vpid 1.

// parcelFD is the socket's descriptor in a bare child: the first free one.
const parcelFD = container.StatusFD + 1

// openParcels makes the socket, where it is needed.
func (s *session) openParcels() error {
	if len(s.r.Manifest.GetUserNamespaces()) == 0 {
		return nil
	}
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make a pair of sockets: %w", err)
	}
	s.parcels, s.queued = os.NewFile(uintptr(p[0]), "parcels"), map[*tracee.Script][]*os.File{}
	there := os.NewFile(uintptr(p[1]), "parcels")
	defer there.Close()
	return s.asHere(pidns.Init, func(sc *tracee.Script) error {
		takeFile(sc, there)
		return nil
	}, nil)
}

// closeParcels ends what still waits to be received.
func (s *session) closeParcels() {
	if s.parcels != nil {
		_ = unix.Shutdown(int(s.parcels.Fd()), unix.SHUT_RDWR)
		_ = s.parcels.Close()
	}
}

// free is the lowest free descriptor of a bare child.
func (s *session) free(v pidns.VPID) uint64 {
	n := uint64(parcelFD)
	if s.parcels != nil {
		n++
	}
	return n + s.places[v].open
}

// takeIn adds the call by which the bare child v takes f, as its lowest free
// descriptor.
func (s *session) takeIn(v pidns.VPID, sc *tracee.Script, f *os.File) {
	if s.places[v].far() {
		s.receive(sc, parcelFD, f)
	} else {
		takeFile(sc, f)
	}
}

// keepIn is takeIn for what v, and who is born of it, keeps until each gets its
// own table. The result of the step is the descriptor.
func (s *session) keepIn(v pidns.VPID, sc *tracee.Script, f *os.File) tracee.Step {
	at := s.places[v]
	at.open++
	defer func() { s.places[v] = at }()
	if !at.far() {
		return takeFile(sc, f)
	}
	n := s.free(v)
	s.receive(sc, parcelFD, f)
	at.open++
	return sc.Must(unix.SYS_FCNTL, n, unix.F_DUPFD_CLOEXEC, 0)
}

// receive adds the call that receives f on the socket at.
func (s *session) receive(sc *tracee.Script, at uint64, f *os.File) {
	le := binary.LittleEndian
	one := sc.Space(1)
	vec := sc.Data(le.AppendUint64(le.AppendUint64(nil, one), 1)) // struct iovec
	size := unix.CmsgSpace(4)
	control := sc.Space(size)
	msg := make([]byte, 0, 56) // struct msghdr
	for _, v := range []uint64{0, 0, vec, 1, control, uint64(size), 0} {
		msg = le.AppendUint64(msg, v)
	}
	sc.Note(sc.Must(unix.SYS_RECVMSG, at, sc.Data(msg), unix.MSG_CMSG_CLOEXEC), "take "+f.Name())
	s.queued[sc] = append(s.queued[sc], f)
}

// deliver sends what a script that is about to run will receive. What does not
// fit into the socket waits for the script to make room.
func (s *session) deliver(sc *tracee.Script) {
	files := s.queued[sc]
	if len(files) == 0 {
		return
	}
	delete(s.queued, sc)
	to := int(s.parcels.Fd())
	go func() {
		for _, f := range files {
			if unix.Sendmsg(to, []byte{0}, unix.UnixRights(int(f.Fd())), nil, unix.MSG_NOSIGNAL) != nil {
				return // the session is at its end, or the script fails and says so
			}
		}
	}()
}
