package sockopt

import (
	"errors"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
)

// Who has no rights over the network is told which option takes them.
func TestDenied(t *testing.T) {
	fd := socket(t, unix.AF_INET, unix.SOCK_DGRAM)
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // which ends with its capabilities
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&hdr, &none[0]); err != nil {
			done <- err
			return
		}
		done <- RestoreMore(uintptr(fd), []*image.SockOption{{Level: unix.SOL_SOCKET, Name: unix.SO_MARK, Value: 7}})
	}()
	err := <-done
	if !errors.Is(err, failure.ErrUnsupported) || !strings.Contains(err.Error(), "set socket option SO_MARK to 7: operation not permitted") {
		t.Errorf("it gives %v", err)
	}
	if hints := failure.Hints(err); len(hints) != 2 || hints[0] != "restore as root" {
		t.Errorf("hints %q", hints)
	}
}
