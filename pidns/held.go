package pidns

import (
	"slices"

	"golang.org/x/sys/unix"

	"ckpt/image"
)

// Holds are processes that have ended, and whose ids objects of the kernel hold
// nevertheless: the maker of a socket (SO_PEERCRED), what a pidfd is of. The
// object keeps a struct pid, which outlives the process (include/linux/pid.h).
// No /proc shows them, and once they have been waited for the kernel gives
// their numbers to others again, as soon as it comes round to them.
type Holds struct {
	all     []*image.Held
	byInode map[uint64]*image.Held
}

// Note enters one, or finds it, and gives the number of its entry. inode is
// that of its pidfds, which no other process has (since Linux 6.9); 0: not
// known. id is 0 where the object shows it to nobody. Of several that had one
// id in turn the first stands for all: they differ by the inode alone.
func (h *Holds) Note(inode uint64, id VPID, status unix.WaitStatus) uint32 {
	e := h.byInode[inode]
	if e == nil && id != 0 {
		e = h.withID(id)
	}
	if e == nil {
		e = &image.Held{Number: uint32(len(h.all) + 1)}
		h.all = append(h.all, e)
	}
	if inode != 0 {
		if h.byInode == nil {
			h.byInode = map[uint64]*image.Held{}
		}
		h.byInode[inode] = e
	}
	if e.Id == 0 && h.withID(id) == nil {
		e.Id = uint32(id)
	}
	if e.Status == 0 {
		e.Status = uint32(status)
	}
	return e.Number
}

func (h *Holds) withID(id VPID) *image.Held {
	i := slices.IndexFunc(h.all, func(e *image.Held) bool { return e.Id == uint32(id) && id != 0 })
	if i < 0 {
		return nil
	}
	return h.all[i]
}

// List are all of them as an image holds them, by number.
func (h *Holds) List() []*image.Held { return h.all }
