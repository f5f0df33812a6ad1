package unixsock

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"unicode"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	sk_unix "github.com/checkpoint-restore/go-criu/v7/crit/images/sk-unix"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
)

// A socket of the container may be connected to one outside, and what that is
// to the outside nobody can save. But a name outlives a connection: where the
// user says so (--external unix:NAME), a restore connects anew to whoever is
// there then. What we have sent has reached the other end; what it has sent
// and we have not read, nobody could send again, and is waited for.

// farSort is the sort of kind.External that unix sockets are.
const farSort = "unix"

// far is an end of a connection that is outside of the container.
type far struct {
	name []byte // its own, or that of the listener that accepted it
	file uint32 // vfsIno of that; 0: not known
}

func (s *saver) farEnd(desc *kind.Desc, i *info) (far, error) {
	o := s.table[i.peer]
	if i.peer == 0 {
		o = s.waits[i.ino]
	}
	if o != nil {
		return far{o.name, o.vfsIno}, nil
	}
	name, err := kernel.UnixPeerName(int(desc.File.Fd())) // it is of another network namespace
	if err != nil && !errors.Is(err, unix.ENOTCONN) {
		return far{}, fmt.Errorf("read its peer's name: %w", err)
	}
	return far{name: name}, nil
}

// leadsOut decides about a socket whose other end is outside: connected, or
// waiting to be accepted there.
func (s *saver) leadsOut(d *kind.Dump, desc *kind.Desc, i *info) error {
	f, err := s.farEnd(desc, i)
	if err != nil {
		return err
	}
	if s.serves(i, f) {
		return aClient(i, client(d, desc, i.peer), "is outside the container")
	}
	const hint = "close the connection before the dump, or start the other side in the container as well"
	if len(f.name) == 0 || f.name[0] == 0 && d.OwnNet { // nobody is called so in the network that a restore makes
		return failure.WithHint(failure.Unsupportedf("unix socket: peer %s is outside the container", shown(f.name)), hint)
	}
	name, err := named(d, f)
	if err != nil {
		return err
	}
	if name == nil {
		why := failure.Unsupportedf("unix socket: peer %s is outside the container", shown(f.name))
		if i.peer == 0 {
			why = failure.Unsupportedf("unix socket: it waits to be accepted on %s, outside the container", shown(f.name))
		}
		return failure.WithHint(why, "let the restore connect it anew, to whoever is there then: --external "+f.flag(), "or "+hint)
	}
	if i.stream() && i.inq > 0 {
		return unread(d, desc, f.name, int(i.inq))
	}
	s.anew[i.ino] = name
	return nil
}

// serves tells whether i is the end that was accepted: it then has the name of a
// listener, which bind(2) gives to nobody else.
func (s *saver) serves(i *info, f far) bool {
	if !i.stream() || i.peer == 0 || len(i.name) == 0 {
		return false
	}
	if len(f.name) == 0 {
		return true
	}
	for _, l := range s.table {
		if l.state == stateListen && l.typ == i.typ && l.vfsIno == i.vfsIno && string(l.name) == string(i.name) {
			return true
		}
	}
	return false
}

func aClient(server *info, who, why string) error {
	return failure.WithHint(failure.Unsupportedf("unix socket: a client of %s%s %s", shown(server.name), who, why),
		"end the client before the dump, and let it connect again after the restore")
}

// unread refuses what has come from outside and has not been read. The program
// is let read it.
func unread(d *kind.Dump, desc *kind.Desc, from []byte, n int) error {
	err := failure.WithHint(failure.Unsupportedf("unix socket: %d bytes from %s, outside the container, wait to be read, and nobody can send them again", n, shown(from)),
		"try again once the program has read them")
	if desc.FD < 0 {
		return err
	}
	return &kind.Busy{Err: err, Holders: d.Holders(desc), Done: func() bool {
		n, err := unix.IoctlGetInt(int(desc.File.Fd()), unix.SIOCINQ)
		return err == nil && n == 0
	}}
}

// named is the name by which a restore is to connect to f, if the user lets it
// (kind.External): its own, or that of a file which leads to it (/dev/log).
func named(d *kind.Dump, f far) (name []byte, err error) {
	for _, x := range d.External.Names(farSort) {
		is := visible(f.name) == x && (path.IsAbs(x) || f.name[0] == 0)
		if !is && path.IsAbs(x) {
			ino, err := socketAt(d, x)
			if err != nil {
				return nil, err
			}
			is = ino != 0 && ino == f.file
		}
		if !is {
			continue
		}
		d.External.Use(farSort, x)
		switch {
		case name != nil: // the same by another name
		case path.IsAbs(x):
			name = append([]byte(x), 0)
		default:
			name = f.name
		}
	}
	return name, nil
}

// socketAt is the inode number, its lower half, of the socket that a path leads
// to in the container; 0: there is none.
func socketAt(d *kind.Dump, name string) (uint32, error) {
	root, err := os.OpenFile(fmt.Sprintf("/proc/%d/root", d.ContainerHome), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open the container's root: %w", err)
	}
	defer root.Close()
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(int(root.Fd()), name, &how)
	if err != nil {
		return 0, nil // the name may be known otherwise
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return 0, err
	}
	return uint32(st.Ino), nil
}

// flag is the value of --external that lets f pass.
func (f far) flag() string {
	switch name := visible(f.name); {
	case strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		return farSort + ":@NAME (with its name, which cannot be shown)"
	case f.name[0] == 0, path.IsAbs(name):
		return failure.Quote(farSort + ":" + name)
	default:
		return fmt.Sprintf("%s:PATH, where PATH is the full path of %s", farSort, failure.Quote(name))
	}
}

// visible is shown without the zero bytes that many programs leave behind an
// abstract name.
func visible(name []byte) string { return strings.TrimRight(shown(name), "\x00") }

// holderOf is a process outside that has the socket with that inode number, by its
// host pid; 0: none can be seen.
func holderOf(d *kind.Dump, ino uint32) int {
	return d.HolderOutside(fmt.Sprintf("socket:[%d]", ino), nil)
}

// client tells, for a message, who has the socket outside with that inode number,
// or else who connected it to desc (nil: it is not known); "": that cannot be seen.
func client(d *kind.Dump, desc *kind.Desc, ino uint32) string {
	pid := holderOf(d, ino)
	if pid == 0 && desc != nil {
		if c, err := unix.GetsockoptUcred(int(desc.File.Fd()), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(c.Pid)
		}
	}
	if who := kind.Named(pid); who != "" {
		return ", " + who + ","
	}
	return ""
}

// checkSent refuses what waits in v and cannot be sent again if that is connected
// anew: over a connection, and datagrams from the abstract name that whoever is
// there then has.
func (s *saver) checkSent(d *kind.Dump, v *saved) error {
	name, bytes, lost := s.anew[v.info.ino], 0, false
	for _, p := range v.packets {
		if len(name) > 0 && (v.info.stream() || name[0] == 0 && string(p.name) == string(name)) {
			bytes, lost = bytes+len(p.data), true
		}
	}
	if !lost {
		return nil
	}
	return unread(d, v.desc, name, bytes)
}

// saveOutside adds the entry that stands for the other end of v, if that is to be
// connected to anew.
func (s *saver) saveOutside(d *kind.Dump, v *saved) error {
	name := s.anew[v.info.ino]
	if name == nil {
		return nil
	}
	for s.spare++; s.table[s.spare] != nil; s.spare++ { // a number that no socket has
	}
	v.entry.Peer = proto.Uint32(s.spare)
	id := d.NewID("file")
	return d.Out.Add(image.Files, "", &fdinfo.FileEntry{Type: fdinfo.FdTypes_UNIXSK.Enum(), Id: proto.Uint32(id), Usk: &sk_unix.UnixSkEntry{
		Id: proto.Uint32(id), Ino: proto.Uint32(s.spare), Type: v.entry.Type, State: proto.Uint32(stateListen), Flags: proto.Uint32(0),
		Uflags: proto.Uint32(image.UnixOutside), Backlog: proto.Uint32(0), Peer: proto.Uint32(0), Fown: v.entry.Fown, Opts: v.entry.Opts, Name: name,
	}})
}
