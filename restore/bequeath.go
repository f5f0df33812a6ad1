package restore

import (
	"fmt"

	"ckpt/pidns"
	"ckpt/tracee"
)

// bequeath lets the kinds make in a bare child what those born of it inherit,
// once, before the first of them is.
//
// If it is to execute a program, it does so before: afterwards it would have
// lost what it has in common with them. Not where user namespaces have been made
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
		if !s.executed[v] && s.executes(t) {
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
