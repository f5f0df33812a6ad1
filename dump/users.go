package dump

import (
	"errors"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/procfs"
	"ckpt/tracee"
)

// users are the user namespaces made inside the container.
type users struct {
	byLink map[string]*image.UserNamespace
	list   []*image.UserNamespace      // by id: an outer one before those in it
	maps   map[uint32][2]procfs.IDMaps // uid_map and gid_map as ckpt reads them, by id
	files  map[uint32]*os.File         // themselves, until all has been read of them
	holder map[uint32]*kind.Proc       // the first process in each; nil: none is
	of     map[*kind.Proc]uint32       // user_ns_id
	owner  map[owned]uint32            // of the other namespaces made inside, where it is not the container's
}

// owned is a namespace as image.OwnedNamespace names it.
type owned struct {
	sort string
	id   uint32
}

// findUsers finds everybody's user namespace. What cannot be told apart is
// refused: nothing that follows would be right.
func (s *session) findUsers() error {
	own, err := s.origin.namespace("user")
	if err != nil {
		return s.unreadable(err)
	}
	u := &users{byLink: map[string]*image.UserNamespace{own: {Id: image.NamespaceID}}, maps: map[uint32][2]procfs.IDMaps{},
		files: map[uint32]*os.File{}, holder: map[uint32]*kind.Proc{}, of: map[*kind.Proc]uint32{}, owner: map[owned]uint32{}}
	s.users = u
	defer func() {
		for _, f := range u.files {
			_ = f.Close()
		}
	}()
	if u.maps[image.NamespaceID], err = s.containersMaps(); err != nil {
		return s.unreadable(err)
	}
	for _, p := range s.d.Procs {
		if p.Zombie {
			continue // it comes back in that of the first process of its pid namespace
		}
		id, err := s.userOf(p)
		if s.endedMeanwhile(err) {
			continue
		}
		if err != nil {
			return s.fail(p, "its user namespace", err)
		}
		u.of[p], p.IDs.UserNsId = id, proto.Uint32(id)
		if u.holder[id] == nil {
			u.holder[id] = p
		}
	}
	for _, n := range u.list {
		if err := s.readUser(n); err != nil && !s.endedMeanwhile(err) {
			return s.failUser(n, err)
		}
	}
	return nil
}

// failUser tells of a process in a user namespace, or else of one in another
// inside of it.
func (s *session) failUser(n *image.UserNamespace, err error) error {
	for _, p := range s.d.Procs {
		if own := s.users.of[p]; own != 0 && slices.Contains(s.users.around(own), n.GetId()) {
			return s.fail(p, "its user namespace", err)
		}
	}
	return err
}

// userOf is the id of a process's user namespace.
func (s *session) userOf(p *kind.Proc) (uint32, error) {
	link, err := p.Lead().FS.Link("ns/user")
	if err != nil {
		return 0, err
	}
	if n := s.users.byLink[link]; n != nil {
		return n.GetId(), nil
	}
	if s.src.Adopted {
		return 0, failure.WithHint(failure.Unsupportedf("it is not ckpt's; these are not carried yet"),
			"start it without unshare(1), a container tool or a sandbox of its own")
	}
	f, err := p.Lead().FS.OpenLink("ns/user", unix.O_RDONLY)
	if err != nil {
		return 0, err
	}
	n, err := s.addUser(f, link)
	return n.GetId(), err
}

// addUser adds a user namespace and those around it. It takes f over.
func (s *session) addUser(f *os.File, link string) (*image.UserNamespace, error) {
	n := &image.UserNamespace{}
	err := s.placeUser(f, n)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	n.Id = uint32(len(s.users.list)) + image.NamespaceID + 1
	s.users.byLink[link], s.users.files[n.Id] = n, f
	s.users.list = append(s.users.list, n)
	return n, nil
}

// placeUser finds where a user namespace lies and who has made it.
func (s *session) placeUser(f *os.File, n *image.UserNamespace) error {
	around, err := kernel.NamespaceOwner(f)
	if err != nil {
		return failure.WithHint(failure.Unsupportedf("it does not lie in the container's: %w", err), "end that program, or start it inside")
	}
	outer, err := kernel.NamespaceLink("user", around)
	if err != nil {
		_ = around.Close()
		return err
	}
	in := s.users.byLink[outer]
	if in != nil {
		_ = around.Close()
	} else if in, err = s.addUser(around, outer); err != nil {
		return err
	}
	n.Around = in.GetId()
	host, err := kernel.NamespaceMaker(f)
	if err != nil {
		return err
	}
	owner, ok := host, true
	if m := s.users.maps[image.NamespaceID][0]; m != nil {
		owner, ok = m.Inside(host)
	}
	if !ok {
		return failure.Unsupportedf("user %d of the host has made it, who has no number in the container's user namespace", host)
	}
	n.Owner = owner
	return nil
}

// containersMaps are uid_map and gid_map of the container; nil: ckpt is in its
// user namespace.
func (s *session) containersMaps() (m [2]procfs.IDMaps, err error) {
	ours, err := s.self.Link("ns/user")
	if err != nil {
		return m, err
	}
	own, err := s.origin.namespace("user")
	if err != nil || ours == own {
		return m, err
	}
	p, err := procfs.Open(int(s.d.ContainerHome))
	if err != nil {
		return m, err
	}
	defer p.Close()
	m, _, err = readMaps(p)
	return m, err
}

func readMaps(p *procfs.Proc) (m [2]procfs.IDMaps, deny bool, err error) {
	if m[0], err = p.UIDMap(); err != nil {
		return m, false, err
	}
	if m[1], err = p.GIDMap(); err != nil {
		return m, false, err
	}
	b, err := p.Read("setgroups")
	return m, strings.TrimSpace(string(b)) == "deny", err
}

// readUser reads what a user namespace made inside is like.
func (s *session) readUser(n *image.UserNamespace) error {
	its, deny, err := s.userMaps(n)
	if err != nil {
		return err
	}
	n.NoSetgroups = deny
	s.users.maps[n.GetId()] = its
	around := s.users.maps[n.GetAround()]
	for i, extents := range []*[]*image.IDExtent{&n.Uids, &n.Gids} {
		seen, ok := its[i].Within(around[i])
		if !ok {
			return failure.Unsupportedf("it has numbers for users or groups that have none in the one around it")
		}
		for _, e := range seen {
			*extents = append(*extents, &image.IDExtent{Inside: e.Inside, Outside: e.Outside, Count: e.Count})
		}
	}
	return nil
}

// userMaps reads uid_map, gid_map and setgroups. They are in /proc/PID of those
// in the user namespace alone; into one that nobody is in any more, but that
// others lie in, a bare child goes.
func (s *session) userMaps(n *image.UserNamespace) (m [2]procfs.IDMaps, deny bool, err error) {
	if p := s.users.holder[n.GetId()]; p != nil {
		return readMaps(p.Lead().FS)
	}
	err = kernel.OnThread(func() error {
		hand, site, err := tracee.StartStub(tracee.StubOptions{Files: []*os.File{s.users.files[n.GetId()]}})
		if err != nil {
			return err
		}
		sc := tracee.NewScript(site.Base)
		sc.Note(sc.Must(unix.SYS_SETNS, 3, unix.CLONE_NEWUSER), "enter a user namespace that nobody is in")
		if err = hand.Run(site, sc); err == nil {
			var p *procfs.Proc
			if p, err = procfs.Open(hand.PID); err == nil {
				m, deny, err = readMaps(p)
				_ = p.Close()
			}
		}
		return errors.Join(err, hand.Kill())
	})
	return m, deny, err
}

// findOwners finds the user namespaces that the namespaces made inside belong
// to.
func (s *session) findOwners() error {
	for _, at := range s.spaces {
		file := "ns/" + at.sort
		if at.sort == "time" && at.holder.Extra.ChildrenTimeNs == at.id {
			file = "ns/time_for_children"
		}
		if err := s.findOwner(at.sort, at.id, at.holder, file); err != nil {
			return err
		}
		if err := s.findHolder(at); err != nil {
			return err
		}
	}
	for _, p := range s.d.Procs {
		if p.Zombie || p.VPID != p.Space || p.VPID == pidns.Init {
			continue
		}
		if err := s.findOwner("pid", uint32(p.VPID), p, "ns/pid"); err != nil {
			return err
		}
	}
	return nil
}

// findHolder makes the first process that has rights over a namespace its
// holder: what is in there is asked for, and made again, through that.
func (s *session) findHolder(at *space) error {
	owner := s.ownerOf(at.sort, at.id)
	if at.sort == "time" || s.users.of[at.holder] == owner {
		return nil // clocks are set before anybody comes in
	}
	for _, n := range sorts {
		if n.file != at.sort {
			continue
		}
		for _, p := range s.d.Procs {
			if !p.Zombie && **n.id(p) == at.id && s.users.of[p] == owner {
				at.holder = p
				return nil
			}
		}
	}
	return s.fail(at.holder, "", failure.WithHint(
		failure.Unsupportedf("its %s namespace belongs to a user namespace that nobody in it is in; that is not carried yet", at.sort),
		"keep the program alive that made it, or start the inner one with a namespace of its own"))
}

func (s *session) findOwner(sort string, id uint32, holder *kind.Proc, file string) error {
	f, err := holder.Lead().FS.OpenLink(file, unix.O_RDONLY)
	if s.endedMeanwhile(err) {
		return nil
	}
	if err != nil {
		return s.fail(holder, "its "+sort+" namespace", err)
	}
	defer f.Close()
	owner, err := kernel.NamespaceOwner(f)
	if err != nil {
		return s.fail(holder, "its "+sort+" namespace", err)
	}
	defer owner.Close()
	link, err := kernel.NamespaceLink("user", owner)
	if err != nil {
		return s.fail(holder, "its "+sort+" namespace", err)
	}
	n := s.users.byLink[link]
	if n == nil {
		return s.fail(holder, "", failure.WithHint(failure.Unsupportedf("its %s namespace belongs to a user namespace that no process is in any more; that is not carried yet", sort),
			"keep the program alive that made it"))
	}
	if n.GetId() != image.NamespaceID {
		n.Owns = append(n.Owns, &image.OwnedNamespace{Sort: sort, Id: id})
		s.users.owner[owned{sort, id}] = n.GetId()
	}
	return nil
}

// ownerOf is the id of the user namespace that a namespace belongs to.
func (s *session) ownerOf(sort string, id uint32) uint32 {
	if id := s.users.owner[owned{sort, id}]; id != 0 {
		return id
	}
	return image.NamespaceID
}

// bornIn is the user namespace in which a process is born by a restore: the
// one that its pid namespace belongs to. It enters those below it later.
func (s *session) bornIn(p *kind.Proc) uint32 { return s.ownerOf("pid", uint32(p.Space)) }

// around are a user namespace made inside and those that it lies in, outwards,
// up to the container's.
func (u *users) around(id uint32) (out []uint32) {
	for ; id > image.NamespaceID; id = u.list[id-image.NamespaceID-1].GetAround() {
		out = append(out, id)
	}
	return append(out, image.NamespaceID)
}
