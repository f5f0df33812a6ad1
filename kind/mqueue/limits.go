package mqueue

import (
	"fmt"

	"golang.org/x/sys/unix"

	"ckpt/kind"
)

// raiseLimits lifts the limits of the namespace under which the queues could
// not be made: they may have been lowered since. The kind of the other ipc
// objects, which saves them, gives them their values when all is done.
func raiseLimits(r *kind.Restore, queues []*queue) error {
	var messages, size uint64
	for _, q := range queues {
		messages, size = max(messages, uint64(q.e.MaxMessages)), max(size, uint64(q.e.MessageSize))
	}
	for _, l := range []struct {
		name string
		need uint64
	}{
		{"fs/mqueue/queues_max", uint64(len(queues))},
		{"fs/mqueue/msg_max", messages},
		{"fs/mqueue/msgsize_max", size},
	} {
		now, err := r.Sysctl(l.name)
		if err != nil {
			return err
		}
		if len(now) == 1 && now[0] < l.need {
			if err := r.SetSysctl(l.name, l.need); err != nil {
				return err
			}
		}
	}
	return nil
}

// unlimited runs fn with as many bytes in message queues as are allowed
// (RLIMIT_MSGQUEUE), which is ckpt's own limit, not of the container.
func unlimited(fn func() error) error {
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MSGQUEUE, &was); err != nil {
		return fmt.Errorf("read the limit on message queues: %w", err)
	}
	if was.Cur == was.Max {
		return fn()
	}
	if err := unix.Setrlimit(unix.RLIMIT_MSGQUEUE, &unix.Rlimit{Cur: was.Max, Max: was.Max}); err != nil {
		return fmt.Errorf("raise the limit on message queues: %w", err)
	}
	err := fn()
	if lerr := unix.Setrlimit(unix.RLIMIT_MSGQUEUE, &was); err == nil && lerr != nil {
		err = fmt.Errorf("set the limit on message queues: %w", lerr)
	}
	return err
}
