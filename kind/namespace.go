package kind

import (
	"fmt"
	"strconv"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"golang.org/x/sys/unix"

	"ckpt/image"
	"ckpt/pidns"
)

// OwnNamespace tells whether the container has a namespace of its own of this
// sort ("ipc", "uts", as in /proc/PID/ns): what it shares with ckpt is not
// the container's to save.
func (d *Dump) OwnNamespace(sort string) (bool, error) {
	if d.Namespace != 0 {
		return true, nil
	}
	var ours, its unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/"+sort, &ours); err != nil {
		return false, fmt.Errorf("look at ckpt's %s namespace: %w", sort, err)
	}
	if err := unix.Stat(fmt.Sprintf("/proc/%d/ns/%s", d.Home, sort), &its); err != nil {
		return false, fmt.Errorf("look at the container's %s namespace: %w", sort, err)
	}
	return ours.Ino != its.Ino || ours.Dev != its.Dev, nil
}

// PIDSpace is the pid namespace that a link as /proc/PID/ns/pid names, by the
// id of the first process in it; 0: that is none of those to be saved.
func (d *Dump) PIDSpace(link string) (pidns.VPID, error) {
	for _, p := range d.Procs {
		if p.VPID != p.Space || p.Zombie {
			continue
		}
		if own, err := p.Lead().FS.Link("ns/pid"); err != nil || own == link {
			return p.VPID, err
		}
	}
	return 0, nil
}

// NamespaceFile is the id in the names of the files of the namespace that is
// being saved.
func (d *Dump) NamespaceFile() string {
	if d.Namespace == 0 {
		return namespaceFile(image.NamespaceID)
	}
	return namespaceFile(d.Namespace)
}

func namespaceFile(id uint32) string { return strconv.FormatUint(uint64(id), 10) }

// NamespaceFile is the id in the names of a namespace's files ("1" of
// "utsns-1.img"): ours are image.NamespaceID, an image of criu's says it in
// the ids of its processes.
func (r *Restore) NamespaceFile(get func(*criu_core.TaskKobjIdsEntry) uint32) string {
	if r.Namespace != 0 {
		return namespaceFile(r.Namespace)
	}
	for _, t := range r.Targets {
		if id := get(t.IDs); id != 0 {
			return strconv.FormatUint(uint64(id), 10)
		}
	}
	return strconv.Itoa(image.NamespaceID)
}
