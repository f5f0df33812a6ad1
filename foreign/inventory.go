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
	t.host = inv.GetRootIds()
	if t.host == nil {
		return failure.Damagedf("inventory.img: it does not tell the namespaces of criu itself")
	}
	return nil
}

// namespace is a sort of them.
type namespace struct {
	name string // in /proc/PID/ns
	id   func(*criu_core.TaskKobjIdsEntry) *uint32
	// files are those that hold the contents of one other than criu's own.
	files []image.Format
}

var spaces = []namespace{
	{"pid", func(e *criu_core.TaskKobjIdsEntry) *uint32 { return e.PidNsId }, nil},
	{"net", func(e *criu_core.TaskKobjIdsEntry) *uint32 { return e.NetNsId }, nil},
	{"ipc", func(e *criu_core.TaskKobjIdsEntry) *uint32 { return e.IpcNsId }, []image.Format{image.IPCVar, image.IPCShm, image.IPCSem, image.IPCMsg}},
	{"uts", func(e *criu_core.TaskKobjIdsEntry) *uint32 { return e.UtsNsId }, []image.Format{image.UTSNS}},
	{"mnt", func(e *criu_core.TaskKobjIdsEntry) *uint32 { return e.MntNsId }, nil},
	{"user", func(e *criu_core.TaskKobjIdsEntry) *uint32 { return e.UserNsId }, nil},
	{"cgroup", func(e *criu_core.TaskKobjIdsEntry) *uint32 { return e.CgroupNsId }, nil},
	{"time", func(e *criu_core.TaskKobjIdsEntry) *uint32 { return e.TimeNsId }, nil},
}

// spaces looks at the namespaces of every process. All have those of the
// first. Its pid namespace may be its own, if it is pid 1 there, and so may those
// of which the image has the contents.
func (t *translation) spaces() error {
	root := t.procs[0]
	for _, p := range t.procs {
		if p.zombie() {
			continue
		}
		for _, n := range spaces {
			own, his := n.id(p.ids), n.id(root.ids)
			if own != nil && his != nil && *own != *his {
				t.refuseOf(p, "", notCarried("it has a namespace of its own (%s) within an image of criu's, which is not carried", n.name))
			}
		}
	}
	for _, n := range spaces {
		own, criu := n.id(root.ids), n.id(t.host)
		if own == nil || criu == nil || *own == *criu { // or a kernel without them
			continue
		}
		t.m.NoInit = t.m.NoInit || n.name == "pid"
		t.refuseOf(root, "", n.refuse(root))
		for _, f := range n.files {
			if from := f.Name(f.ID(uint64(*own))); t.r.Has(f, f.ID(uint64(*own))) {
				t.names[f.Name(f.ID(image.NamespaceID))] = from
			}
		}
	}
	if !t.m.NoInit && root.entry.GetPid() == 1 {
		t.refuseOf(root, "", failure.Damagedf("it is pid 1 in the namespace that criu itself was in"))
	}
	return nil
}

// refuse tells why a namespace other than criu's cannot be carried.
func (n namespace) refuse(root *process) error {
	switch n.name {
	case "pid":
		if root.entry.GetPid() != 1 {
			return failure.Damagedf("it is the first process of a pid namespace, and not pid 1")
		}
	case "time":
	default:
		if len(n.files) == 0 {
			return failure.WithHint(failure.Unsupportedf("a namespace (%s) other than criu's own is not carried", n.name),
				"let the program run in that of criu when it is dumped, or restore the image by criu")
		}
	}
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
