package mqueue

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
)

// maker keeps the queues of an image open, by id, until every descriptor of
// them has been made.
type maker struct {
	files  map[uint32]*os.File
	opened map[uint32]*os.File // open file descriptions, by file id, that nobody has asked for yet
}

// restore makes the queues. One whose name is gone comes before one that may
// have the same.
func (m *maker) restore(r *kind.Restore) error {
	if r.Namespace != 0 {
		return nil
	}
	queues, err := readQueues(r.In)
	if err != nil || len(queues) == 0 {
		return err
	}
	if err := raiseLimits(r, queues); err != nil {
		return err
	}
	slices.SortStableFunc(queues, func(a, b *queue) int { return cmp.Compare(named(a), named(b)) })
	return unlimited(func() error {
		for _, q := range queues {
			if err := m.make(r, q); err != nil {
				return fmt.Errorf("%s: %w", q, err)
			}
		}
		return nil
	})
}

func named(q *queue) int {
	if q.e.Unlinked {
		return 0
	}
	return 1
}

// finish lets go of them.
func (m *maker) finish(*kind.Restore) error {
	var errs []error
	for _, all := range []map[uint32]*os.File{m.files, m.opened} {
		for _, f := range all {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// readQueues reads the file, whose entries are of two messages by turns.
func readQueues(in *image.Reader) ([]*queue, error) {
	d, err := in.Decode(image.MessageQueues, "")
	if err != nil || d == nil {
		return nil, err
	}
	defer d.Close()
	var out []*queue
	for d.Rest() > 0 {
		q := &queue{e: &image.MessageQueue{}}
		if err := d.Next(q.e); err != nil {
			return nil, err
		}
		for i := range q.e.Messages {
			if d.Rest() == 0 {
				return nil, failure.Damagedf("%s ends at message %d of %d of %s", image.MessageQueues.Name(""), i, q.e.Messages, q)
			}
			t := &image.QueuedMessage{}
			if err := d.Next(t); err != nil {
				return nil, err
			}
			q.texts = append(q.texts, t)
			if int64(len(t.Text)) > q.e.MessageSize || int64(len(q.texts)) > q.e.MaxMessages {
				return nil, failure.Damagedf("%s has messages beyond its limits of %d messages and %d bytes each", q, q.e.MaxMessages, q.e.MessageSize)
			}
		}
		out = append(out, q)
	}
	return out, nil
}

// make makes a queue, and what is open of it, as long as it has a name: a
// program sees by O_LARGEFILE, which open(2) sets and mq_open(2) does not, how
// it was opened.
func (m *maker) make(r *kind.Restore, q *queue) error {
	f, err := q.make()
	if err != nil {
		return err
	}
	m.files[q.e.Id] = f
	name := string(q.e.Name)
	for id, x := range r.Extras {
		flags := r.Entries[id].GetReg().GetFlags()
		if x.GetMessageQueue() != q.e.Id || flags&(kind.LargeFile|unix.O_PATH) != 0 {
			continue
		}
		// A descriptor that mq_open(2) gives always closes on exec; the flag
		// only shows in F_GETFL.
		open := kind.OpenFlags(flags)&^unix.O_CLOEXEC | int(flags)&unix.O_CLOEXEC
		fd, err := kernel.MqOpen(name, open|unix.O_NONBLOCK, 0, kernel.MqAttr{})
		if err != nil {
			return fmt.Errorf("open it (mq_open): %w", err)
		}
		if m.opened[id], err = kind.NewFile(fd, flags, q.String()); err != nil {
			return err
		}
	}
	if q.e.Unlinked {
		if err := kernel.MqUnlink(name); err != nil {
			return fmt.Errorf("remove its name: %w", err)
		}
	}
	return nil
}

// make makes the queue itself, with its messages.
func (q *queue) make() (_ *os.File, err error) {
	fd, err := kernel.MqOpen(string(q.e.Name), unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600,
		kernel.MqAttr{MaxMessages: q.e.MaxMessages, MessageSize: q.e.MessageSize})
	if errors.Is(err, unix.EMFILE) {
		return nil, failure.WithHint(fmt.Errorf("make it (mq_open): more bytes in message queues than one user may have: %w", err),
			"raise the limit (ulimit -q, in bytes), or remove message queues of other programs")
	}
	if err != nil {
		return nil, fmt.Errorf("make it (mq_open): %w", err)
	}
	f, err := kind.NewFile(fd, unix.O_NONBLOCK, q.String())
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	for i, m := range q.texts {
		if err := kernel.MqSend(fd, m.Text, m.Priority); err != nil {
			return nil, fmt.Errorf("send message %d of %d: %w", i+1, len(q.texts), err)
		}
	}
	if err := kind.SetInode(f, q.e.Inode); err != nil {
		return nil, err
	}
	return f, nil
}
