package dump

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/container"
	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/tracee"
)

// sorts of namespaces that processes may have made inside (unshare(2)), as
// /proc/PID/ns calls them; pid namespaces are the remap table's.
var sorts = []struct {
	file string
	id   func(*kind.Proc) **uint32
}{
	{"mnt", func(p *kind.Proc) **uint32 { return &p.IDs.MntNsId }},
	{"ipc", func(p *kind.Proc) **uint32 { return &p.IDs.IpcNsId }},
	{"uts", func(p *kind.Proc) **uint32 { return &p.IDs.UtsNsId }},
	{"time", func(p *kind.Proc) **uint32 { return &p.IDs.TimeNsId }},
}

// refusedSorts are those that every process must share with the container.
var refusedSorts = []struct{ file, name string }{{"net", "network"}, {"cgroup", "cgroup"}}

// space is a namespace made inside the container.
type space struct {
	sort   string
	id     uint32
	holder *kind.Proc   // the first process in it
	mounts map[int]bool // mnt: ids of all its mounts
}

// findNamespaces gives every process the ids of its namespaces, and gathers
// those made inside.
func (s *session) findNamespaces() error {
	if err := s.findUsers(); err != nil {
		return err
	}
	byLink := map[string]*space{}
	for _, n := range sorts {
		next := uint32(image.NamespaceID)
		own, err := s.origin.namespace(n.file)
		if errors.Is(err, unix.ENOENT) {
			continue // the kernel has none of this sort
		}
		if err != nil {
			return s.unreadable(err)
		}
		byLink[own] = &space{sort: n.file, id: image.NamespaceID}
		find := func(p *kind.Proc, link string) uint32 {
			at := byLink[link]
			if at == nil {
				next++
				at = &space{sort: n.file, id: next, holder: p}
				byLink[link] = at
				s.spaces = append(s.spaces, at)
			}
			return at.id
		}
		for _, p := range s.d.Procs {
			*n.id(p) = proto.Uint32(image.NamespaceID)
			if p.Zombie {
				continue
			}
			link, err := p.Lead().FS.Link("ns/" + n.file)
			children := link
			if err == nil && n.file == "time" {
				children, err = p.Lead().FS.Link("ns/time_for_children")
			}
			if s.endedMeanwhile(err) {
				continue
			}
			if err != nil {
				return s.fail(p, "read its namespaces", err)
			}
			if children != link {
				p.Extra.ChildrenTimeNs = find(p, children)
			}
			*n.id(p) = proto.Uint32(find(p, link))
		}
	}
	if err := s.findMounts(); err != nil {
		return err
	}
	return s.findOwners()
}

// findMounts reads which mounts each mount namespace made inside has.
func (s *session) findMounts() error {
	for _, at := range s.spaces {
		if at.sort != "mnt" {
			continue
		}
		all, err := at.holder.Lead().FS.MountInfo()
		if err != nil && !s.endedMeanwhile(err) {
			return s.fail(at.holder, "read its mounts", err)
		}
		at.mounts = map[int]bool{}
		for _, m := range all {
			at.mounts[m.ID] = true
		}
	}
	return nil
}

// mountSpace is the namespace made inside through whose mounts a file was
// opened; nil: none.
func (s *session) mountSpace(d *kind.Desc) *space {
	for _, at := range s.spaces {
		if at.mounts[d.Info.MntID] {
			return at
		}
	}
	return nil
}

// mountsOf is Dump.MountsOf.
func (s *session) mountsOf(d *kind.Desc) pidns.HostPID {
	if at := s.mountSpace(d); at != nil {
		return at.holder.Lead().Host
	}
	return s.d.Home
}

// ownNamespaces are the container's of refusedSorts, by sort.
func (s *session) ownNamespaces() (map[string]string, error) {
	own := map[string]string{}
	for _, ns := range refusedSorts {
		var err error
		if own[ns.file], err = s.origin.namespace(ns.file); err != nil {
			return nil, s.unreadable(err)
		}
	}
	return own, nil
}

func (s *session) unreadable(err error) error {
	return &failure.Error{Doing: "dump", What: "read " + s.origin.whose() + " namespaces", Err: err}
}

// checkNamespaces refuses a process that has left those of the container's
// namespaces that cannot be made inside, which are own, or whose own could not
// be made again.
func (s *session) checkNamespaces(p *kind.Proc, own map[string]string) error {
	if p.Zombie {
		return nil
	}
	for _, ns := range refusedSorts {
		mine, err := p.Lead().FS.Link("ns/" + ns.file)
		if err != nil {
			return s.fail(p, "read its namespaces", err)
		}
		if mine != own[ns.file] {
			return s.fail(p, "", failure.WithHint(failure.Unsupportedf("its %s namespace is not %s; these are not carried yet", ns.name, s.origin.whose()),
				"start it without unshare(1), a container tool or a sandbox of its own"))
		}
	}
	if err := s.checkUser(p); err != nil {
		return err
	}
	return s.checkSharing(p)
}

// checkSharing: setns(2) is refused to who shares its directories (mnt) or its
// memory (time) with another process, and so it has to be born alone.
func (s *session) checkSharing(p *kind.Proc) error {
	if p.IDs.GetMntNsId() <= image.NamespaceID && p.IDs.GetTimeNsId() <= image.NamespaceID && p.Extra.ChildrenTimeNs == 0 {
		return nil
	}
	if p.Extra.ChildrenTimeNs != 0 && p.Lead().VTID != p.VPID {
		// Who has made one can make no thread (clone(2), EINVAL).
		return s.fail(p, "", failure.WithHint(failure.Unsupportedf("it has made a time namespace for its children and its leading thread has ended; that is not carried yet"),
			"start it without unshare(1), a container tool or a sandbox of its own"))
	}
	for _, q := range s.d.Procs {
		if q == p || q.Zombie || s.out == nil && (forking(p.Lead()) || forking(q.Lead())) {
			continue // while only checking a vfork(2) may be under way, which passes
		}
		for _, c := range []struct {
			shared bool
			what   string
		}{
			{p.IDs.GetMntNsId() > image.NamespaceID && p.IDs.GetFsId() == q.IDs.GetFsId(), "is in a mount namespace made inside and shares its working directory"},
			{p.IDs.GetTimeNsId() > image.NamespaceID && p.IDs.GetVmId() == q.IDs.GetVmId(), "is in a time namespace made inside and shares its memory"},
			{p.Extra.ChildrenTimeNs != 0 && p.Extra.ChildrenTimeNs == q.Extra.ChildrenTimeNs, "has children in a time namespace made inside"},
		} {
			if c.shared {
				return s.fail(p, "", failure.WithHint(failure.Unsupportedf("it %s with pid %d; that is not carried yet", c.what, q.VPID),
					"start it without unshare(1), a container tool or a sandbox of its own"))
			}
		}
	}
	return nil
}

// saveNamespaces lets each kind save the container's namespace of its sort,
// then those made inside.
func (s *session) saveNamespaces() error {
	for _, k := range s.kinds.Namespaces {
		if err := k.Dump(s.d); err != nil {
			return &failure.Error{Doing: "dump", What: k.Name, Err: err}
		}
	}
	for _, at := range s.spaces {
		if err := s.saveSpace(at); err != nil {
			return s.fail(at.holder, "its "+at.sort+" namespace", err)
		}
	}
	return nil
}

// saveSpace saves a namespace made inside, through a bare child in all
// namespaces of the first process in it.
func (s *session) saveSpace(at *space) error {
	hand, site, err := newHand(at.holder.Lead().Host, nil)
	if err != nil {
		return err
	}
	d := *s.d
	d.Home, d.Namespace, d.Hand = at.holder.Lead().Host, at.id, pidns.HostPID(hand.PID)
	d.Inside, d.Whole, d.As = inNamespaces(hand, site), nil, nil
	for _, k := range s.kinds.Namespaces {
		if k.Sort == at.sort && err == nil {
			if err = k.Dump(&d); err != nil {
				err = fmt.Errorf("%s: %w", k.Name, err)
			}
		}
	}
	return errors.Join(err, hand.Kill())
}

// newHand starts a bare child in the namespaces of a process, with room for
// calls: its own page has none for what System V messages take. It has carried as
// container.CarriedFD, unless that is nil.
func newHand(of pidns.HostPID, carried *os.File) (*tracee.Thread, tracee.Site, error) {
	hand, site, err := container.Join(int(of), carried)
	if err != nil {
		return nil, site, err
	}
	if site.Base, err = mapRoom(hand, site, areaSize); err != nil {
		return nil, site, errors.Join(err, hand.Kill())
	}
	site.Size = areaSize
	return hand, site, nil
}

// inNamespaces runs calls in one.
func inNamespaces(hand *tracee.Thread, site tracee.Site) tracee.Runner {
	return hand.Runner(site, "the container's namespaces")
}
