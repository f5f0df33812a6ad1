package inet

import (
	"fmt"

	"golang.org/x/sys/unix"

	"ckpt/kernel"
	"ckpt/kind"
)

// shows tells whether poll(2) shows the event.
func shows(fd int, event int16) (bool, error) {
	is, err := kernel.Poll(uintptr(fd), event)
	if err != nil {
		return false, fmt.Errorf("poll it: %w", err)
	}
	return is&event != 0, nil
}

// tellLost says what cannot be saved, where there is some.
func tellLost(d *kind.Dump, desc *kind.Desc, i *seen) error {
	fd := int(desc.File.Fd())
	if i.raw() || i.ping() {
		if any, err := shows(fd, unix.POLLIN); !any || err != nil {
			return err
		}
		d.Lost(desc, "packets that wait in a "+i.name()+" are not saved")
	}
	// An error means that the kernel is older.
	if on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ZEROCOPY); err == nil && on != 0 && !(i.tcp() && !i.connected()) {
		d.Lost(desc, "the count of what a socket has sent without copying (MSG_ZEROCOPY) begins anew")
	}
	if flags, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPING); err == nil && flags&unix.SOF_TIMESTAMPING_OPT_ID != 0 {
		d.Lost(desc, "the count by which a socket tells times of sending apart (SOF_TIMESTAMPING_OPT_ID) begins anew")
	}
	return nil
}
