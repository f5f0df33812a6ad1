package restore

import (
	"errors"
	"maps"
	"slices"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"google.golang.org/protobuf/reflect/protoreflect"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/pidns"
)

// sound refuses an image whose entries contradict each other or say what no
// program can have had. Its checksums may be right all the same: who can write to
// an image can make them so.
func (s *session) sound() error {
	errs := []error{s.soundIDs(), s.soundParents()}
	for _, t := range s.r.Targets {
		if !t.Zombie {
			errs = append(errs, s.soundProcess(t)...)
		}
	}
	return errors.Join(errs...)
}

func (s *session) soundProcess(t *kind.Target) (errs []error) {
	for _, k := range s.kinds.All() {
		if k.Sound != nil {
			errs = append(errs, s.fail(t, k.Name, failure.Mark(failure.ErrDamaged, k.Sound(t))))
		}
	}
	for _, k := range s.kinds.Threads {
		for _, tt := range t.Threads {
			if k.Sound != nil && !tt.Extra.GetDead() {
				errs = append(errs, s.failThread(t, tt, k.Name, failure.Mark(failure.ErrDamaged, k.Sound(t, tt))))
			}
		}
	}
	return errs
}

// soundIDs compares the remap table with the processes: a row with a task is that
// of a process or thread, and says of it what pstree.img does.
func (s *session) soundIDs() error {
	if len(s.ids) != len(s.r.Manifest.GetTable()) {
		return failure.Damagedf("ckpt.img: an id stands twice in the table of ids")
	}
	tasks := map[pidns.VPID]bool{}
	for _, t := range s.r.Targets {
		e := t.Entry
		for _, tt := range t.Threads {
			if tasks[tt.VTID] {
				return failure.Damagedf("pstree.img: id %d stands there twice", tt.VTID)
			}
			tasks[tt.VTID] = true
			w := s.ids[tt.VTID]
			if w.GetTgid() != e.GetPid() || !sameParent(w.GetPpid(), e.GetPpid()) || w.GetPgid() != e.GetPgid() || w.GetSid() != e.GetSid() || w.GetZombie() != t.Zombie {
				return failure.Damagedf("pstree.img says of id %d: process %d, parent %d, group %d, session %d, zombie %t; the table of ids in ckpt.img: %d, %d, %d, %d, %t",
					tt.VTID, e.GetPid(), e.GetPpid(), e.GetPgid(), e.GetSid(), t.Zombie, w.GetTgid(), w.GetPpid(), w.GetPgid(), w.GetSid(), w.GetZombie())
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.ids)) {
		w := s.ids[id]
		if tasks[id] {
			continue
		}
		if w.GetTgid() != 0 || w.GetPpid() != 0 || w.GetPgid() != 0 || w.GetSid() != 0 || w.GetZombie() {
			return failure.Damagedf("ckpt.img: id %d of process %d is none of pstree.img", id, w.GetTgid())
		}
	}
	return nil
}

// sameParent: to pstree.img the first process has none, as in images of criu's.
func sameParent(table, pstree uint32) bool {
	return table == pstree || pstree == 0 && pidns.VPID(table) == pidns.Init
}

// soundParents refuses a thread to be the parent of a process that is none of its
// parent's.
func (s *session) soundParents() error {
	threads := map[[2]uint32]bool{}
	for _, t := range s.r.Targets {
		for _, tt := range t.Threads {
			threads[[2]uint32{t.Entry.GetPid(), uint32(tt.VTID)}] = true
		}
	}
	for _, t := range s.r.Targets {
		if sig := t.Extra.GetExitSignal(); sig > lastSignal {
			return failure.Damagedf("ckpt-task-%d.img: its parent gets signal %d when it ends", t.VPID, sig)
		}
		if by := t.Extra.GetParentThread(); by != 0 && !threads[[2]uint32{t.Entry.GetPpid(), by}] {
			return failure.Damagedf("ckpt-task-%d.img: it is a child of thread %d, which its parent %d has not", t.VPID, by, t.Entry.GetPpid())
		}
	}
	return nil
}

// lastSignal is the greatest number of one (_NSIG of the kernel).
const lastSignal = 64

// entryFields name the field of a file_entry that each type has. EXT is ours, too:
// of message queues with a regular file, of pidfds with nothing.
var entryFields = map[fdinfo.FdTypes]protoreflect.Name{
	fdinfo.FdTypes_REG: "reg", fdinfo.FdTypes_PIPE: "pipe", fdinfo.FdTypes_FIFO: "fifo", fdinfo.FdTypes_INETSK: "isk",
	fdinfo.FdTypes_UNIXSK: "usk", fdinfo.FdTypes_EVENTFD: "efd", fdinfo.FdTypes_EVENTPOLL: "epfd", fdinfo.FdTypes_INOTIFY: "ify",
	fdinfo.FdTypes_SIGNALFD: "sgfd", fdinfo.FdTypes_PACKETSK: "psk", fdinfo.FdTypes_TTY: "tty", fdinfo.FdTypes_FANOTIFY: "ffy",
	fdinfo.FdTypes_NETLINKSK: "nlsk", fdinfo.FdTypes_NS: "nsf", fdinfo.FdTypes_TUNF: "tunf", fdinfo.FdTypes_TIMERFD: "tfd",
	fdinfo.FdTypes_MEMFD: "memfd",
}

// soundEntry refuses an entry of files.img without what its type says it is.
func soundEntry(e *fdinfo.FileEntry) error {
	if e.GetType() == fdinfo.FdTypes_EXT {
		return nil
	}
	name, ok := entryFields[e.GetType()]
	if !ok {
		return failure.Damagedf("%s: file %d is of type %v", image.Files.Name(""), e.GetId(), e.GetType())
	}
	m := e.ProtoReflect()
	f := m.Descriptor().Fields().ByName(name)
	if !m.Has(f) {
		return failure.Damagedf("%s: file %d is of type %v, and has no %s", image.Files.Name(""), e.GetId(), e.GetType(), f.Message().Name())
	}
	in := m.Get(f).Message()
	if id := in.Descriptor().Fields().ByName("id"); in.Get(id).Uint() != uint64(e.GetId()) {
		return failure.Damagedf("%s: the %s of file %d is one of file %d", image.Files.Name(""), f.Message().Name(), e.GetId(), in.Get(id).Uint())
	}
	return nil
}
