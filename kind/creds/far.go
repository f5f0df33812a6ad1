package creds

import (
	"slices"

	"ckpt/failure"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/procfs"
)

// far is a bare child in a user namespace made inside: who it is, by the
// container's numbers, and what these are where it is.
type far struct {
	bare     procfs.Status
	uid, gid procfs.IDMaps
	denied   bool // setgroups(2)
}

// noChange is an id that setresuid(2) and setresgid(2) leave as it is.
const noChange = ^uint32(0)

// far looks whether a thread is in another user namespace than ckpt; nil: it
// is not.
func (m *maker) far(r *kind.Restore, t *kind.Target, tt *kind.TargetThread) (*far, error) {
	host := t.Host
	if tt.Traced != nil {
		host = pidns.HostPID(tt.Traced.TID)
	}
	p, err := procfs.OpenAt(r.HostProc, host.String())
	if err != nil {
		return nil, err
	}
	defer p.Close()
	ns, err := p.StatLink("ns/user")
	if err != nil || ns.Ino == m.own {
		return nil, err
	}
	st, err := p.Status()
	if err != nil {
		return nil, err
	}
	f := &far{bare: *st}
	if f.uid, err = p.UIDMap(); err != nil {
		return nil, err
	}
	if f.gid, err = p.GIDMap(); err != nil {
		return nil, err
	}
	f.denied, err = groupsDenied(p)
	return f, err
}

// translate turns want into the numbers of the user namespace, and gives what
// the bare child has, in the same. Securebits begin anew there.
func (f *far) translate(want *identity) (have identity, groups bool, err error) {
	b := &f.bare
	have = identity{groups: b.Groups, inh: b.CapInh, prm: b.CapPrm, eff: b.CapEff, bnd: b.CapBnd, amb: b.CapAmb, noNewPrivs: b.NoNewPrivs}
	if have.uid, want.uid, err = within(f.uid, "user", b.Uid, want.uid); err != nil {
		return have, false, err
	}
	if have.gid, want.gid, err = within(f.gid, "group", b.Gid, want.gid); err != nil {
		return have, false, err
	}
	if same(want.groups, b.Groups) {
		return have, false, nil
	}
	if f.denied {
		return have, false, failure.Unsupportedf("it is in the groups %v, and setgroups(2) is denied in its user namespace", want.groups)
	}
	numbers := make([]uint32, len(want.groups))
	for i, g := range want.groups {
		var ok bool
		if numbers[i], ok = f.gid.Inside(g); !ok {
			return have, false, failure.Unsupportedf("it is in group %d, which has no number in its user namespace", g)
		}
	}
	want.groups = numbers
	return have, true, nil
}

// within translates ids. One that has no number stays what it is.
func within(m procfs.IDMaps, what string, have, want [4]uint32) (h, w [4]uint32, err error) {
	for i := range want {
		var ok bool
		if h[i], ok = m.Inside(have[i]); !ok {
			h[i] = noChange
		}
		if w[i], ok = m.Inside(want[i]); ok {
			continue
		}
		if w[i] = noChange; want[i] != have[i] {
			return h, w, failure.Unsupportedf("its %s id %d has no number in its user namespace", what, want[i])
		}
	}
	return h, w, nil
}

// same compares groups, which may stand there twice, in any order.
func same(a, b []uint32) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(slices.Compact(a), slices.Compact(b))
}
