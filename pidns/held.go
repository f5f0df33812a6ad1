package pidns

import (
	"slices"

	"golang.org/x/sys/unix"

	"ckpt/image"
)

// Holds are processes that have ended, and whose ids objects of the kernel hold
// nevertheless: the maker of a socket (SO_PEERCRED), what a pidfd is of,
// or a descriptor on a folder of /proc. The object keeps a struct pid, which outlives the process (include/linux/pid.h).
// No /proc shows them, and once they have been waited for the kernel gives
// their numbers to others again, as soon as it comes round to them.
type Holds struct {
	all     []*image.Held
	byInode map[uint64]*image.Held
	either  map[*image.Held]bool // noted with Either alone
}

// Either stands for the process of a thread, or for 0, where the object does
// not tell: /proc/N may be the folder of a thread that no list shows.
const Either VPID = -1

// Note enters one, or finds it, and gives the number of its entry. inode is
// that of its pidfds, which no other process has (since Linux 6.9); 0: not
// known. id is 0 where the object shows it to nobody. of is 0, or the process
// that it was a thread of. Of several that had one id in turn the first stands
// for all, which differ by the inode alone; ok is false where they were not
// threads of one process, or only one was a thread.
func (h *Holds) Note(inode uint64, id, of VPID, status unix.WaitStatus) (number uint32, ok bool) {
	e := h.byInode[inode]
	if e == nil && id != 0 {
		if e = h.withID(id); e != nil && !h.settle(e, of) {
			return 0, false
		}
	}
	if e == nil {
		e = &image.Held{Number: uint32(len(h.all) + 1)}
		h.all = append(h.all, e)
		h.mark(e, of)
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
	return e.Number, true
}

// settle tells whether e is a thread of the process of, if that is known.
func (h *Holds) settle(e *image.Held, of VPID) bool {
	if h.either[e] {
		h.mark(e, of)
	}
	return of == Either || e.Tgid == uint32(of)
}

func (h *Holds) mark(e *image.Held, of VPID) {
	if h.either == nil {
		h.either = map[*image.Held]bool{}
	}
	if h.either[e] = of == Either; of != Either {
		e.Tgid = uint32(of)
	}
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
