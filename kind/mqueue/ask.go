package mqueue

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/tracee"
)

// mostRoom bounds what the messages of a queue may take, all as long as the
// longest allowed, in bytes: they have to fit into memory twice.
const mostRoom = 64 << 20

// ask saves the queues. Nothing is received before all that could be refused
// has been looked at.
func (w *world) ask(d *kind.Dump) error {
	own, err := d.OwnNamespace("ipc")
	if err != nil || !own {
		return err
	}
	if w.fs == nil {
		if err := w.mount(d); err != nil {
			return err
		}
	}
	if w.fs == nil {
		return nil
	}
	defer w.close()
	if err := w.find(d); err != nil {
		return err
	}
	var refused []error
	for _, q := range w.queues {
		err := q.fits()
		if err == nil {
			err = q.findNotice(d)
		}
		if err != nil {
			refused = append(refused, fmt.Errorf("%s: %w", q, err))
		}
	}
	if err := errors.Join(refused...); err != nil {
		return err
	}
	for _, q := range w.queues {
		if err := q.read(d); err != nil {
			return fmt.Errorf("%s: %w", q, err)
		}
		if err := q.save(d); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) close() {
	_ = w.fs.dir.Close()
	for _, q := range w.queues {
		_ = q.file.Close()
	}
}

func (q *queue) save(d *kind.Dump) error {
	if err := d.Out.Add(image.MessageQueues, "", q.e); err != nil {
		return err
	}
	for _, m := range q.texts {
		if err := d.Out.Add(image.MessageQueues, "", m); err != nil {
			return err
		}
	}
	return nil
}

// room is what a script takes that receives and sends all messages, in bytes.
func (q *queue) room() int64 {
	const calls = 512 // a message: two calls, and what its text is aligned by
	return int64(q.waiting+1)*(q.e.MessageSize+calls) + 1<<16
}

func (q *queue) fits() error {
	if q.e.MessageSize < mostRoom && q.room() <= mostRoom {
		return nil
	}
	return failure.WithHint(failure.Unsupportedf("%d messages wait in it, each of up to %d bytes, which may be more than %d MiB", q.waiting, q.e.MessageSize, mostRoom>>20),
		"let them be received")
}

// read finds out what waits in the queue, and who is to be notified.
func (q *queue) read(d *kind.Dump) error {
	switch {
	case q.notice != nil:
		return q.notice.read(d, q)
	case q.waiting == 0:
		return nil
	}
	var b batch
	err := d.Whole(uint64(q.room()), func(s *tracee.Script) error {
		b.receive(s, q, q.there)
		b.send(s, q.there)
		return nil
	}, func(s *tracee.Script) error { return b.take(s, q) })
	return err
}

// batch are the messages of a queue in a script that receives all of them and
// sends them again.
type batch struct {
	texts          []uint64
	received, sent []tracee.Step
}

// receive adds the calls that take every message out of the queue, which is
// open as fd. From the first of them on no call may stop the script.
func (b *batch) receive(s *tracee.Script, q *queue, fd uint64) {
	for range q.waiting {
		text := s.Space(int(q.e.MessageSize))
		b.texts = append(b.texts, text)
		b.received = append(b.received, s.Try(unix.SYS_MQ_TIMEDRECEIVE, fd, text, uint64(q.e.MessageSize), 0, 0))
	}
}

// send adds the calls that put them back, each with the length and the
// priority that it was received with.
func (b *batch) send(s *tracee.Script, fd uint64) {
	for i, text := range b.texts {
		step := s.Try(unix.SYS_MQ_TIMEDSEND, fd, text, 0, 0, 0)
		s.Feed(b.received[i], step, 2)
		s.Aim(b.received[i], 3, step, 3)
		b.sent = append(b.sent, step)
	}
}
