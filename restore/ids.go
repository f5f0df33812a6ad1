package restore

import (
	"slices"

	"ckpt/image"
	"ckpt/pidns"
)

// identities are the rows of the image's remap table by id.
type identities map[pidns.VPID]*image.Identity

func newIdentities(m *image.Manifest) identities {
	ids := identities{}
	for _, w := range m.GetTable() {
		ids[pidns.VPID(w.GetId())] = w
	}
	return ids
}

// chain is what an id is in nested pid namespaces.
func (ids identities) chain(v pidns.VPID) pidns.Chain {
	if w := ids[v]; w != nil {
		return pidns.ChainIn(w)
	}
	return pidns.Chain{v}
}

// space is the pid namespace that an id belongs to, by that of its first process.
func (ids identities) space(v pidns.VPID) pidns.VPID {
	if in := pidns.VPID(ids[v].GetNamespace()); in != 0 {
		return in
	}
	return pidns.Init
}

// path are the namespaces from below the container's own down to space.
func (ids identities) path(space pidns.VPID) []pidns.VPID {
	var out []pidns.VPID
	for space != pidns.Init && len(out) <= len(ids) { // an image may say anything
		out = append(out, space)
		space = ids.space(pidns.VPID(ids[space].GetPpid()))
	}
	slices.Reverse(out)
	return out
}

// seen are the ids of a group or session below the container's namespace, as
// far as a process in space sees them: in the namespaces that both are in.
func (ids identities) seen(space, id pidns.VPID) []pidns.VPID {
	nested := ids.chain(id).Nested()
	mine, its := ids.path(space), ids.path(ids.space(id))
	n := 0
	for n < min(len(mine), len(its), len(nested)) && mine[n] == its[n] {
		n++
	}
	return nested[:n]
}
