package unixsock

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/procfs"
	"ckpt/tracee"
)

// peerGroups are the supplementary groups of whoever SO_PEERCRED shows, as he
// had them then (SO_PEERGROUPS, Linux 4.13, commit 28b5ba2aa0f5); nil: the
// kernel keeps nobody.
func peerGroups(fd uintptr) (groups []uint32, err error) {
	for _, most := range []int{64, 1 << 16} { // NGROUPS_MAX
		var b []byte
		b, err = kernel.SocketOption(fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS, make([]byte, 4*most))
		if errors.Is(err, unix.ENODATA) {
			return nil, nil
		}
		for ; err == nil && len(b) >= 4; b = b[4:] {
			groups = append(groups, binary.NativeEndian.Uint32(b))
		}
		if !errors.Is(err, unix.ERANGE) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read SO_PEERGROUPS: %w", err)
	}
	return groups, nil
}

// groupsInside are peerGroups as the container sees them.
func groupsInside(d *kind.Dump, fd int) ([]uint32, error) {
	groups, err := peerGroups(uintptr(fd))
	for i, g := range groups {
		in, err := d.Inode(&unix.Stat_t{Gid: g})
		if err != nil {
			return nil, err
		}
		groups[i] = in.GetGid()
	}
	return groups, err
}

// setGroups is setgroups(2). Where it is not allowed, tellGroups says so. It
// takes the capability that a change of the user may drop.
func setGroups(s *tracee.Script, groups []uint32) {
	var b []byte
	for _, g := range groups {
		b = binary.NativeEndian.AppendUint32(b, g)
	}
	s.Try(unix.SYS_SETGROUPS, uint64(len(groups)), s.Data(b))
}

// groupsFor are the groups that a bare process has, and those it takes to be
// c, as it calls them; both are nil where it keeps what it has: because they
// are those of c, because setgroups(2) is denied, or because one has no number
// in its user namespace. t is nil but for one made inside.
func groupsFor(r *kind.Restore, t *kind.Target, c *image.Ucred) (own, want []uint32, err error) {
	at, ok := "thread-self", true
	if t == nil {
		mine, err := unix.Getgroups()
		if err != nil {
			return nil, nil, err
		}
		for _, g := range mine {
			own = append(own, uint32(g))
		}
		want = c.GetGroups()
	} else {
		at = t.Host.String()
		own, ok = numbersIn(r, t, t.Threads[0].Core.GetThreadCore().GetCreds().GetGroups())
		var all bool
		want, all = numbersIn(r, t, c.GetGroups())
		ok = ok && all
	}
	if !ok || sameGroups(own, want) {
		return nil, nil, nil
	}
	p, err := procfs.OpenAt(r.HostProc, at)
	if err != nil {
		return nil, nil, err
	}
	defer p.Close()
	b, err := p.Read("setgroups")
	if err != nil || strings.TrimSpace(string(b)) == "deny" {
		return nil, nil, err
	}
	return own, want, nil
}

// numbersIn are groups by the numbers they have in the user namespace of t; ok
// is false if one has none.
func numbersIn(r *kind.Restore, t *kind.Target, groups []uint32) (out []uint32, ok bool) {
	for _, g := range groups {
		n, ok := image.UserNumber(r.Manifest.GetUserNamespaces(), t.IDs.GetUserNsId(), true, g)
		if !ok {
			return nil, false
		}
		out = append(out, n)
	}
	return out, true
}

// sameGroups compares groups, which may stand there twice, in any order.
func sameGroups(a, b []uint32) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(slices.Compact(a), slices.Compact(b))
}

// tellGroups says where SO_PEERGROUPS is not what it was: not everybody may
// choose groups. Those without a number in the container are nobody's
// choice there, and read as those of whoever restores.
func (w *world) tellGroups(s *sock) error {
	c := s.x.GetPeerCred()
	if len(c.GetGroups()) == 0 {
		return nil
	}
	got, err := peerGroups(s.f.Fd())
	if err != nil || sameGroups(got, c.GetGroups()) {
		return err
	}
	self, err := procfs.OpenAt(w.r.HostProc, "thread-self")
	if err != nil {
		return err
	}
	defer self.Close()
	m, err := self.GIDMap()
	if err != nil {
		return err
	}
	unmapped := func(g uint32) bool { _, ok := m.Outside(g); return !ok }
	if want := slices.DeleteFunc(slices.Clone(c.GetGroups()), unmapped); !sameGroups(slices.DeleteFunc(got, unmapped), want) {
		w.r.Log.Warn("the groups of a socket's peer (SO_PEERGROUPS) are others: they may not be chosen here", "peer", pidns.VPID(c.GetPid()), "groups", c.GetGroups())
	}
	return nil
}
