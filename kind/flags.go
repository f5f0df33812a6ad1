package kind

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// settable are the status flags that F_SETFL may change (fcntl(2)). O_DIRECT
// is left out: only files that were opened with it can have it.
const settable = unix.O_APPEND | unix.O_ASYNC | unix.O_NOATIME | unix.O_NONBLOCK

// StatusFlags are the flags of the open file description as images hold
// them: without O_CLOEXEC, which belongs to the descriptor.
func (d *Desc) StatusFlags() uint32 { return uint32(d.Info.Flags) &^ unix.O_CLOEXEC }

// SetStatusFlags gives f those of flags that can be set after opening. O_ASYNC
// takes effect at once, so the owner (RestoreOwner) must be set before.
func SetStatusFlags(f *os.File, flags uint32) error {
	now, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err != nil {
		return fmt.Errorf("read status flags: %w", err)
	}
	want := now&^settable | int(flags)&settable
	if want == now {
		return nil
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETFL, want); err != nil {
		return fmt.Errorf("set status flags %#o: %w", want, err)
	}
	return nil
}
