package kernel

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Poll asks what is the matter with one descriptor (poll(2)), and does not
// wait. A signal that is pending interrupts it all the same: Go sends itself
// some.
func Poll(fd uintptr, events int16) (revents int16, err error) {
	p := []unix.PollFd{{Fd: int32(fd), Events: events}}
	for {
		if _, err := unix.Poll(p, 0); !errors.Is(err, unix.EINTR) {
			return p[0].Revents, err
		}
	}
}
