package restore

import (
	"fmt"
	"slices"

	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/restore/tree"
	"ckpt/tracee"
)

// bequeath lets the kinds make in a bare child what those born of it inherit,
// once, before the first of them is.
//
// If it is to execute a program, it does so before: afterwards it would have
// lost what it has in common with them. Not where one of them needs memory from
// before its birth, which goes through its parents: then this one loses it, and
// they have it in common with each other. Nor where user namespaces have been made
// inside, for the sake of which bare children carry descriptors: memory is then
// not shared.
func (s *session) bequeath(v pidns.VPID) error {
	t := s.target(v)
	if t == nil || t.Zombie || s.bequeathed[v] || len(s.r.Manifest.GetUserNamespaces()) > 0 {
		return nil
	}
	s.bequeathed[v] = true
	t.Heir = s.heirs[v]
	for _, k := range s.kinds.All() {
		if k.Bequeath == nil {
			continue
		}
		var give func(tracee.Runner) error
		if err := s.within(func() (err error) {
			give, err = k.Bequeath(s.r, t)
			return err
		}); err != nil {
			return s.fail(t, k.Name, err)
		}
		if give == nil {
			continue
		}
		if !s.executed[v] && !s.carriers[v] && s.executes(t) {
			if err := s.executeOne(t); err != nil {
				return s.fail(t, "", err)
			}
			t.Heir = 0
		}
		if err := give(s.stubs[v].Runner(s.root.Site, fmt.Sprintf("pid %d", v))); err != nil {
			return s.fail(t, k.Name, err)
		}
		s.heirs[v] = v
	}
	return nil
}

// carriersOf are those through whom one that is born later, of them or of who is
// born of them, has memory that it needs from before its birth.
func (s *session) carriersOf(births []tree.Step) map[pidns.VPID]bool {
	carriers := map[pidns.VPID]bool{}
	for _, step := range slices.Backward(births) {
		if f, ok := step.(tree.Fork); ok && (carriers[f.Child] || s.inherits(s.target(f.Child))) {
			carriers[f.Parent] = true
		}
	}
	return carriers
}

// inherits tells whether t needs memory from before its birth; nil is a helper.
func (s *session) inherits(t *kind.Target) bool {
	return t != nil && slices.ContainsFunc(s.kinds.All(), func(k kind.Process) bool { return k.Inherits != nil && k.Inherits(t) })
}
