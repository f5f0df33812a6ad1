package foreign

import (
	"fmt"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/inventory"

	"ckpt/failure"
	"ckpt/image"
)

// imageVersion is the one of CRIU's format that is known (CRTOOLS_IMAGES_V1_1).
const imageVersion = 2

// host is what inventory.img says of criu itself: its namespaces and control
// groups are those that the processes did not have of their own.
type host struct {
	ids *criu_core.TaskKobjIdsEntry
	cg  uint32
}

func (t *translation) loadInventory() error {
	inv, err := image.One[*inventory.InventoryEntry](t.r, image.Inventory, "")
	if err != nil {
		return err
	}
	if inv.GetImgVersion() != imageVersion || !inv.GetFdinfoPerId() || !inv.GetNsPerId() {
		return failure.Mark(failure.ErrIncompatible, fmt.Errorf("inventory.img: version %d of CRIU's format is not known", inv.GetImgVersion()))
	}
	if names := part(inv, fieldInventoryPlugins); len(names) > 0 {
		t.refuse(failure.WithHint(failure.Unsupportedf("inventory.img: plugins of criu's have saved a part of the image"), "restore the image by criu, with the same plugins"))
	}
	t.host = host{ids: inv.GetRootIds(), cg: inv.GetRootCgSet()}
	if t.host.ids == nil {
		return failure.Damagedf("inventory.img: it does not tell the namespaces of criu itself")
	}
	return nil
}

// spaces are the sorts of namespaces: the name in /proc/PID/ns, and the number
// of one in ids-PID.img.
var spaces = []struct {
	name string
	id   func(*criu_core.TaskKobjIdsEntry) *uint32
}{
	{"pid", func(e *criu_core.TaskKobjIdsEntry) *uint32 { return e.PidNsId }},
	{"net", func(e *criu_core.TaskKobjIdsEntry) *uint32 { return e.NetNsId }},
	{"ipc", func(e *criu_core.TaskKobjIdsEntry) *uint32 { return e.IpcNsId }},
	{"uts", func(e *criu_core.TaskKobjIdsEntry) *uint32 { return e.UtsNsId }},
	{"mnt", func(e *criu_core.TaskKobjIdsEntry) *uint32 { return e.MntNsId }},
	{"user", func(e *criu_core.TaskKobjIdsEntry) *uint32 { return e.UserNsId }},
	{"cgroup", func(e *criu_core.TaskKobjIdsEntry) *uint32 { return e.CgroupNsId }},
	{"time", func(e *criu_core.TaskKobjIdsEntry) *uint32 { return e.TimeNsId }},
}

// spaces looks at the namespaces of every process. All have those of the
// first, whose pid namespace may be its own: it is pid 1 of it then. Of the
// clocks the image has a reading, wherever they are from.
func (t *translation) spaces() error {
	root := t.procs[0]
	for _, p := range t.procs {
		if p.zombie() {
			continue
		}
		for _, n := range spaces {
			own, his, criu := n.id(p.ids), n.id(root.ids), n.id(t.host.ids)
			switch {
			case own == nil || his == nil || criu == nil: // a kernel or a criu without them
			case *own != *his:
				t.refuseOf(p, "", failure.WithHint(failure.Unsupportedf("it has a %s namespace of its own within an image of criu's, which is not carried", n.name), "restore the image by criu"))
			case *own != *criu && p == root && n.name != "pid" && n.name != "time":
				t.refuseOf(p, "", failure.WithHint(failure.Unsupportedf("a %s namespace other than criu's own, of which the image has the contents, is not carried", n.name),
					"let the program run in that of criu when it is dumped, or restore the image by criu"))
			case *own == *criu && p == root && n.name == "pid" && p.entry.GetPid() == 1:
				t.refuseOf(p, "", failure.Damagedf("it is pid 1 of the namespace that criu was in"))
			}
		}
	}
	t.m.NoInit = root.entry.GetPid() == 1
	return nil
}

// container gives the ids of a process the numbers that ckpt has for a
// container's own namespaces.
func container(ids *criu_core.TaskKobjIdsEntry) {
	for _, n := range spaces {
		if id := n.id(ids); id != nil {
			*id = image.NamespaceID
		}
	}
}
