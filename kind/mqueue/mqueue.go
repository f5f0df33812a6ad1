// Package mqueue is POSIX message queues (mq_overview(7)): those that have a
// name in the container's ipc namespace, whoever has them open or nobody, and
// those that only descriptors hold any more; their messages; the descriptors;
// and who has asked to be notified (mq_notify(3)).
//
// # What the kernel shows
//
// The queues are files of an mqueue file system, one a namespace, that a bare
// child of ckpt's mounts where nobody sees it. mq_getsetattr(2) tells the
// limits, a read of a queue who is to be notified, and by which signal.
//
// Messages can only be received. So all of them are, and sent again in the
// order they came in, which is the one they had: the greatest priority first,
// the oldest first among equals. That is one script, which runs to its end
// though ckpt be killed meanwhile. No process of the container runs then.
// Where somebody is to be notified, the script runs in that process, and first
// takes back what was asked for, lest the first message sent again bring it
// about, and at its end asks for it again.
//
// What was asked for is not shown in full. The signal's value is learnt by
// letting a message arrive and taking the signal, which waits blocked; what a
// thread's netlink socket is to be told (SIGEV_THREAD), by taking the request
// back, for then it is told just that (ipc/mqueue.c, set_cookie()).
//
// # What is saved
//
// Names, permissions, owners, limits, messages; in ckpt-task-VPID.img what a
// process has asked for. The limits of the namespace (fs.mqueue) are saved by
// the kind of the other ipc objects.
//
// # What is lost
//
// Times of a queue's file, also by a dump; and whose RLIMIT_MSGQUEUE a queue
// counts against: that of whoever restores. A process outside of the container
// that has a queue open, by a descriptor passed to it, could receive messages
// while they are looked at.
//
// If ckpt is killed while a script runs, the processes go on before its last
// messages are in the queue again: about a microsecond each. One that does not
// wait finds fewer just then; one that has waited for room takes that of the
// last message, which is lost if there is none. Another thread of a process
// that is to be notified may see the signal, or the socket's message.
//
// Refused are queues of an ipc namespace other than the container's, and
// notifications that cannot be asked for again, see notice.go.
//
// # Needs
//
// CONFIG_POSIX_MQUEUE.
package mqueue

import (
	"fmt"
	"os"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"golang.org/x/sys/unix"

	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/pidns"
)

// magic is MQUEUE_MAGIC of the kernel's ipc/mqueue.c.
const magic = 0x19800202

// New gives the descriptors, the queues, and who is to be notified.
func New() (files kind.File, queues kind.Namespace, notices kind.Process) {
	w := &world{}
	m := &maker{files: map[uint32]*os.File{}, opened: map[uint32]*os.File{}}
	return kind.File{
			Name:    "message queue",
			Saves:   "descriptors of POSIX message queues, also of deleted ones",
			Refuses: "a queue of another ipc namespace",
			Type:    fdinfo.FdTypes_EXT, Restores: restores,
			Owns: owns, Refuse: w.refuse, Dump: w.dumpFile, Restore: m.open,
			Unseen: "message queues, and who is to be notified (mq_notify)",
			Limits: "a queue counts against the limit (RLIMIT_MSGQUEUE) of whoever restores; its times are new",
		},
		kind.Namespace{
			Name:    "message queues",
			Saves:   "queues with their limits, messages in their order, owners; also those that nobody has open",
			Refuses: "messages that may take more than 64 MiB together; queues in an ipc namespace made inside",
			Sort:    "ipc", Ask: w.ask, Dump: refuseInner, Restore: m.restore, Finish: m.finish,
		},
		kind.Process{
			Name:    "message queue notifications",
			Saves:   "who is to be notified of a message, and how (mq_notify)",
			Refuses: "where it cannot be told how: the signal waits already; several netlink sockets may be the one of SIGEV_THREAD",
			Restore: restoreNotices,
		}
}

func owns(d *kind.Desc) bool {
	var fs unix.Statfs_t
	return d.Stat.Mode&unix.S_IFMT == unix.S_IFREG && unix.Fstatfs(int(d.File.Fd()), &fs) == nil && fs.Type == magic
}

// world is what a dump knows of the queues.
type world struct {
	fs     *fileSystem // the namespace's; nil: not looked for, or there is none
	dev    uint64      // its device number; 0: as fs
	queues []*queue
	descs  []*kind.Desc // of queues, in the order they were met
}

// queue is one being saved.
type queue struct {
	e       *image.MessageQueue
	ino     uint64
	file    *os.File // to receive, send and read; does not block
	there   uint64   // the same open file description in ckpt's bare child
	waiting int      // messages
	notice  *notice
	texts   []*image.QueuedMessage
}

func (w *world) byInode(ino uint64) *queue {
	for _, q := range w.queues {
		if q.ino == ino {
			return q
		}
	}
	return nil
}

// call it as a program knows it.
func (q *queue) String() string {
	if q.e.Unlinked {
		return fmt.Sprintf("/%s (unlinked)", q.e.Name)
	}
	return fmt.Sprintf("/%s", q.e.Name)
}

// look reads what can be read of a queue without changing it.
func (q *queue) look(d *kind.Dump) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(q.file.Fd()), &st); err != nil {
		return fmt.Errorf("stat: %w", err)
	}
	a, err := kernel.MqGetAttr(int(q.file.Fd()))
	if err != nil {
		return fmt.Errorf("read its attributes: %w", err)
	}
	q.ino, q.waiting = st.Ino, int(a.Messages)
	q.e.MaxMessages, q.e.MessageSize, q.e.Messages = a.MaxMessages, a.MessageSize, uint32(a.Messages)
	q.e.Inode, err = d.Inode(&st)
	return err
}

// procOf is the process of a host id, if it is one of those to be saved.
func procOf(d *kind.Dump, h pidns.HostPID) *kind.Proc {
	for _, p := range d.Procs {
		if p.Host == h && !p.Zombie {
			return p
		}
	}
	return nil
}
