package restore

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"ckpt/failure"
)

// dieWith has the container that is being made killed when ctx ends, whatever its
// processes and ckpt are at: one may be reading gigabytes just then. lives takes that
// back, and tells whether it is in time.
func (s *session) dieWith(ctx context.Context) (lives func() bool, err error) {
	// A descriptor: the number is another's once the container has been reaped.
	fd, err := unix.PidfdOpen(int(s.root.HostPID), 0)
	if err != nil {
		return nil, &failure.Error{Doing: "restore", Err: fmt.Errorf("hold vpid 1: %w", err)}
	}
	killed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		close(killed)
	})
	return func() bool {
		defer unix.Close(fd)
		if stop() {
			return true
		}
		<-killed
		return false
	}, nil
}
