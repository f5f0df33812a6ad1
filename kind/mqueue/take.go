package mqueue

import (
	"errors"
	"fmt"
	"slices"

	"ckpt/image"
	"ckpt/kernel"
	"ckpt/tracee"
)

// take keeps the messages that the script has received. Those that it could
// not put back, for want of memory, ckpt does.
func (b *batch) take(s *tracee.Script, q *queue) (err error) {
	for i, step := range b.received {
		n, rerr := s.Result(step)
		if rerr != nil {
			return errors.Join(err, fmt.Errorf("receive message %d of %d, which somebody outside of the container may have taken: %w", i+1, len(b.received), rerr))
		}
		m := &image.QueuedMessage{Priority: uint32(s.Arg(b.sent[i], 3)), Text: slices.Clone(s.Bytes(b.texts[i], int(n)))}
		q.texts = append(q.texts, m)
		if _, serr := s.Result(b.sent[i]); serr != nil {
			err = errors.Join(err, fmt.Errorf("put message %d of %d back: %w", i+1, len(b.received), serr))
			if serr := kernel.MqSend(int(q.file.Fd()), m.Text, m.Priority); serr != nil {
				err = errors.Join(err, fmt.Errorf("it is lost: %w", serr))
			}
		}
	}
	return err
}
