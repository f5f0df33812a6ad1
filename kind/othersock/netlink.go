// Package othersock saves the sockets that are neither unix nor internet
// sockets: of these, netlink(7). The families that are not carried are
// refused by name by package anoninode.
//
// What the kernel shows: getsockname(2) the port, getpeername(2) the peer,
// NETLINK_LIST_MEMBERSHIPS the groups, getsockopt(2) the options, poll(2)
// whether something waits.
//
// What is saved: port, peer, groups, options, flags, owner, of sockets of the
// protocols of the table below.
//
// What is lost: see Limits. Refused are sockets in which messages wait that the
// program does not take, which nobody can put back; and protocols in which the
// kernel keeps more for a socket than it shows.
//
// Needs: NETLINK_LIST_MEMBERSHIPS (Linux 4.2).
package othersock

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"strings"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	sk_netlink "github.com/checkpoint-restore/go-criu/v7/crit/images/sk-netlink"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/kind/sockopt"
)

// Kind is netlink(7).
func Kind() kind.File {
	return kind.File{
		Name:    "netlink socket",
		Saves:   "routes, devices, sock_diag, xfrm, uevents, generic, between processes: port, peer, groups, options",
		Refuses: "messages that wait in one; other protocols (netfilter, audit, connector, ...)",
		Type:    fdinfo.FdTypes_NETLINKSK,
		Owns:    owns,
		Refuse:  func(d *kind.Dump, desc *kind.Desc) error { _, err := look(d, desc); return err },
		Dump:    dump,
		Restore: restore,
		Check:   check,
		Limits: "what happens to devices, routes and the like between dump and restore is not reported; " +
			"numbers of generic netlink families and groups that another kernel gives anew are not translated",
	}
}

func owns(d *kind.Desc) bool {
	if !strings.HasPrefix(d.Link, "socket:[") {
		return false
	}
	domain, err := unix.GetsockoptInt(int(d.File.Fd()), unix.SOL_SOCKET, unix.SO_DOMAIN)
	return err == nil && domain == unix.AF_NETLINK
}

// carried are the protocols in which a socket is no more than what it shows.
var carried = map[int]bool{unix.NETLINK_ROUTE: true, unix.NETLINK_USERSOCK: true, unix.NETLINK_SOCK_DIAG: true, unix.NETLINK_XFRM: true,
	unix.NETLINK_KOBJECT_UEVENT: true, unix.NETLINK_GENERIC: true}

// names are those of protocols that are not (netlink(7)).
var names = map[int]string{
	unix.NETLINK_SELINUX: "NETLINK_SELINUX", unix.NETLINK_ISCSI: "NETLINK_ISCSI", unix.NETLINK_AUDIT: "NETLINK_AUDIT",
	unix.NETLINK_FIB_LOOKUP: "NETLINK_FIB_LOOKUP", unix.NETLINK_CONNECTOR: "NETLINK_CONNECTOR", unix.NETLINK_NETFILTER: "NETLINK_NETFILTER",
	unix.NETLINK_SCSITRANSPORT: "NETLINK_SCSITRANSPORT", unix.NETLINK_RDMA: "NETLINK_RDMA", unix.NETLINK_CRYPTO: "NETLINK_CRYPTO",
}

// solNetlink is SOL_NETLINK, the level of options; x/sys lacks those below.
const (
	solNetlink    = 270
	listenAllNSID = 8
	memberships   = 9
	getStrictChk  = 12
)

// options are those with an int as value; all are 0 in a new socket.
var options = []int{unix.NETLINK_PKTINFO, unix.NETLINK_BROADCAST_ERROR, unix.NETLINK_NO_ENOBUFS, listenAllNSID, unix.NETLINK_CAP_ACK, unix.NETLINK_EXT_ACK, getStrictChk}

// seen is what the kernel shows of a socket.
type seen struct {
	proto, typ int
	port       uint32
	peer       uint32   // port of whom it is connected to; 0: the kernel
	peerGroup  uint32   // to which it sends then; 0: none
	groups     []uint32 // a bit a group, group 1 first
}

func look(d *kind.Dump, desc *kind.Desc) (*seen, error) {
	if err := sockopt.Check(d, desc); err != nil {
		return nil, err
	}
	fd := int(desc.File.Fd())
	s := &seen{}
	for name, to := range map[int]*int{unix.SO_PROTOCOL: &s.proto, unix.SO_TYPE: &s.typ} {
		v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, name)
		if err != nil {
			return nil, fmt.Errorf("read its type and protocol: %w", err)
		}
		*to = v
	}
	if !carried[s.proto] {
		name := names[s.proto]
		if name == "" {
			name = fmt.Sprintf("protocol %d", s.proto)
		}
		return nil, failure.WithHint(failure.Unsupportedf("a netlink socket of %s, for which the kernel keeps more than it shows", name), "close it before the dump")
	}
	if err := s.lookAddresses(fd); err != nil {
		return nil, err
	}
	wait, err := waits(fd)
	if wait {
		err := failure.WithHint(failure.Unsupportedf("messages wait in it, which cannot be put back"), "try again in a moment, when the program has read them")
		return nil, &kind.Busy{Err: err, Holders: d.Holders(desc), Done: func() bool {
			wait, err := waits(fd)
			return !wait || err != nil
		}}
	}
	return s, err
}

// waits tells whether there is something to be read, or that something has been
// dropped (ENOBUFS).
func waits(fd int) (bool, error) {
	shows, err := kernel.Poll(uintptr(fd), unix.POLLIN)
	if err != nil {
		return false, fmt.Errorf("poll it: %w", err)
	}
	return shows&(unix.POLLIN|unix.POLLERR) != 0, nil
}

func (s *seen) lookAddresses(fd int) error {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return fmt.Errorf("read its port (getsockname): %w", err)
	}
	if a, ok := sa.(*unix.SockaddrNetlink); ok {
		s.port = a.Pid
	}
	sa, err = unix.Getpeername(fd)
	if err != nil {
		return fmt.Errorf("read its peer (getpeername): %w", err)
	}
	if a, ok := sa.(*unix.SockaddrNetlink); ok {
		s.peer = a.Pid
		if a.Groups != 0 {
			s.peerGroup = uint32(bits.TrailingZeros32(a.Groups)) + 1 // connect(2) takes the first
		}
	}
	b, err := kernel.SocketOption(uintptr(fd), solNetlink, memberships, make([]byte, 1024))
	if err != nil {
		return fmt.Errorf("read its groups (NETLINK_LIST_MEMBERSHIPS): %w", err)
	}
	for ; len(b) >= 4; b = b[4:] {
		s.groups = append(s.groups, binary.NativeEndian.Uint32(b))
	}
	for len(s.groups) > 0 && s.groups[len(s.groups)-1] == 0 {
		s.groups = s.groups[:len(s.groups)-1]
	}
	return nil
}

func dump(d *kind.Dump, desc *kind.Desc) (*fdinfo.FileEntry, error) {
	s, err := look(d, desc)
	if err != nil {
		return nil, err
	}
	owner, err := d.Owner(desc)
	if err != nil {
		return nil, err
	}
	opts, err := sockopt.Dump(desc.File.Fd())
	if err != nil {
		return nil, err
	}
	x := &image.FileExtra{Id: desc.ID}
	if x.SockOptions, err = sockopt.More(desc.File.Fd()); err != nil {
		return nil, err
	}
	own, err := ownOptions(int(desc.File.Fd()))
	if err != nil {
		return nil, err
	}
	x.SockOptions = append(x.SockOptions, own...)
	if s.typ != unix.SOCK_RAW { // the entry has no field for it
		x.SockOptions = append(x.SockOptions, &image.SockOption{Level: unix.SOL_SOCKET, Name: unix.SO_TYPE, Value: int64(s.typ)})
	}
	if x.Inode, err = d.Inode(&desc.Stat); err != nil {
		return nil, err
	}
	if err := d.Out.Add(image.FilesExtra, "", x); err != nil {
		return nil, err
	}
	return &fdinfo.FileEntry{Nlsk: &sk_netlink.NetlinkSkEntry{
		Id: proto.Uint32(desc.ID), Ino: proto.Uint32(uint32(desc.Stat.Ino)), Protocol: proto.Uint32(uint32(s.proto)), State: proto.Uint32(0),
		Flags: proto.Uint32(desc.StatusFlags()), Portid: proto.Uint32(s.port), Groups: s.groups,
		DstPortid: proto.Uint32(s.peer), DstGroup: proto.Uint32(s.peerGroup), Fown: owner, Opts: opts,
	}}, nil
}

func ownOptions(fd int) (out []*image.SockOption, err error) {
	for _, name := range options {
		v, err := unix.GetsockoptInt(fd, solNetlink, name)
		switch {
		case errors.Is(err, unix.ENOPROTOOPT): // an older kernel
		case err != nil:
			return nil, fmt.Errorf("read netlink option %d: %w", name, err)
		case v != 0:
			out = append(out, &image.SockOption{Level: solNetlink, Name: int32(name), Value: int64(v)})
		}
	}
	return out, nil
}

func restore(r *kind.Restore, e *fdinfo.FileEntry) (*os.File, error) {
	f, err := open(r, e)
	if err != nil {
		return nil, err
	}
	err = kind.SetInode(f, r.Extras[e.GetId()].GetInode())
	if err == nil {
		err = r.RestoreOwner(f, e.GetNlsk().GetFown())
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// check makes the socket for a moment: it sends nothing.
func check(r *kind.Restore, e *fdinfo.FileEntry) error {
	if r.Manifest.GetNetNone() {
		return nil
	}
	f, err := open(r, e)
	if err != nil {
		return err
	}
	return f.Close()
}

// open makes the socket, but for what the file it is has besides.
func open(r *kind.Restore, e *fdinfo.FileEntry) (*os.File, error) {
	n := e.GetNlsk()
	if n == nil || n.GetOpts() == nil {
		return nil, failure.Damagedf("a netlink socket without its entry")
	}
	if n.GetDstGroup() > 32 {
		return nil, failure.Unsupportedf("a netlink socket connected to group %d", n.GetDstGroup())
	}
	extra := r.Extras[e.GetId()].GetSockOptions() // none: an image of criu's
	typ := unix.SOCK_RAW
	for _, o := range extra {
		if o.GetLevel() == unix.SOL_SOCKET && o.GetName() == unix.SO_TYPE {
			typ = int(o.GetValue())
		}
	}
	fd, err := unix.Socket(unix.AF_NETLINK, typ|unix.SOCK_CLOEXEC, int(n.GetProtocol()))
	if err != nil {
		return nil, fmt.Errorf("make a netlink socket of protocol %d: %w", n.GetProtocol(), err)
	}
	f, err := kind.NewFile(fd, n.GetFlags(), "netlink socket")
	if err != nil {
		return nil, err
	}
	if err := fill(f, n, extra); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// fill: options first, so that a filter stands before the first message.
// SO_TYPE among them is right already.
func fill(f *os.File, n *sk_netlink.NetlinkSkEntry, extra []*image.SockOption) error {
	if err := sockopt.Restore(f.Fd(), n.GetOpts()); err != nil {
		return err
	}
	if err := sockopt.RestoreMore(f.Fd(), extra); err != nil {
		return err
	}
	if n.GetPortid() != 0 {
		err := unix.Bind(int(f.Fd()), &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: n.GetPortid()})
		if errors.Is(err, unix.EADDRINUSE) {
			return failure.WithHint(fmt.Errorf("another program has netlink port %d here: %w", n.GetPortid(), err),
				"end that program", "or start containers with a network of their own (--net none)")
		}
		if err != nil {
			return fmt.Errorf("bind it to port %d: %w", n.GetPortid(), err)
		}
	}
	for i, word := range n.GetGroups() {
		for bit := range 32 {
			if word&(1<<bit) == 0 {
				continue
			}
			if err := unix.SetsockoptInt(int(f.Fd()), solNetlink, unix.NETLINK_ADD_MEMBERSHIP, 32*i+bit+1); err != nil {
				return fmt.Errorf("join netlink group %d: %w", 32*i+bit+1, err)
			}
		}
	}
	if n.GetDstPortid() != 0 || n.GetDstGroup() != 0 {
		if err := connect(int(f.Fd()), n); err != nil {
			return err
		}
	}
	return nil
}

// connect needs nobody at the other end.
func connect(fd int, n *sk_netlink.NetlinkSkEntry) error {
	to := &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: n.GetDstPortid()}
	if g := n.GetDstGroup(); g != 0 {
		to.Groups = 1 << (g - 1)
	}
	err := unix.Connect(fd, to)
	if errors.Is(err, unix.EPERM) {
		return failure.WithHint(failure.Mark(failure.ErrUnsupported, fmt.Errorf("to connect it to port %d, group %d takes CAP_NET_ADMIN over its network: %w", to.Pid, n.GetDstGroup(), err)),
			"restore as root", "or start containers with a network of their own (--net none)")
	}
	if err != nil {
		return fmt.Errorf("connect it to port %d, group %d: %w", to.Pid, n.GetDstGroup(), err)
	}
	return nil
}
