package foreign

import (
	"cmp"
	"maps"
	"slices"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/inventory"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/pstree"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/timens"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/pidns"
)

// table makes the manifest's part about processes, and the files that say
// whose children and in which namespaces they are. The numbers that they had
// where criu saw them are their virtual ids: on the host those of the host.
func (t *translation) table() error {
	root := t.procs[0].entry
	t.m.MainVpid, t.m.Command = root.GetPid(), []string{t.procs[0].comm()}
	rows := map[uint32]*image.Identity{}
	var tree []*pstree.PstreeEntry
	for _, p := range t.procs {
		e := proto.CloneOf(p.entry)
		if p == t.procs[0] && e.GetPpid() != 0 {
			return failure.Damagedf("pstree.img: pid %d is the first, and has a parent", e.GetPid())
		}
		if p == t.procs[0] && !t.m.NoInit {
			e.Ppid = proto.Uint32(uint32(pidns.Init)) // ckpt's init takes the place of whoever was outside
		}
		tree = append(tree, e)
		for _, tid := range e.GetThreads() {
			if tid == 0 || tid > maxPID || tid == uint32(pidns.Init) && !t.m.NoInit {
				return failure.Damagedf("pstree.img: id %d is none that a process can have", tid)
			}
			if rows[tid] != nil {
				return failure.Damagedf("pstree.img: id %d stands there twice", tid)
			}
			rows[tid] = &image.Identity{Id: tid, Tgid: e.GetPid(), Ppid: e.GetPpid(), Pgid: e.GetPgid(), Sid: e.GetSid(), Zombie: p.zombie()}
		}
	}
	for _, e := range tree { // groups and sessions whose leader is gone, or outside
		for _, id := range []uint32{e.GetPgid(), e.GetSid()} {
			if id > maxPID {
				return failure.Damagedf("pstree.img: id %d is none that a group or session can have", id)
			}
			if rows[id] == nil && id != 0 && id != uint32(pidns.Init) {
				rows[id] = &image.Identity{Id: id}
			}
		}
	}
	t.m.Table = slices.SortedFunc(maps.Values(rows), func(a, b *image.Identity) int { return cmp.Compare(a.Id, b.Id) })
	t.m.LastPid = t.m.Table[len(t.m.Table)-1].GetId()
	if err := put(t, image.PSTree, "", tree...); err != nil {
		return err
	}
	return t.clocks()
}

// maxPID is the highest id that Linux gives (PID_MAX_LIMIT).
const maxPID = 4194304

// clocks: the reading of the clocks that the processes saw stands in timens-0.img
// where they were in the first time namespace.
func (t *translation) clocks() error {
	ids := proto.CloneOf(t.host)
	container(ids)
	if err := put(t, image.Inventory, "", &inventory.InventoryEntry{
		ImgVersion: proto.Uint32(imageVersion), FdinfoPerId: proto.Bool(true), NsPerId: proto.Bool(true), RootIds: ids}); err != nil {
		return err
	}
	for _, id := range []string{image.TimeNS.ID(uint64(t.procs[0].ids.GetTimeNsId())), "0"} {
		if !t.r.Has(image.TimeNS, id) {
			continue
		}
		e, err := image.One[*timens.TimensEntry](t.r, image.TimeNS, id)
		if err != nil {
			return err
		}
		return put(t, image.TimeNS, image.TimeNS.ID(image.NamespaceID), e)
	}
	return nil
}
