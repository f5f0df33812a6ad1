package tracee

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

func TestIOPorts(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{{nil, true}, {unix.ENXIO, false}, {unix.EINVAL, false}} {
		if is, err := ioPorts(c.err); is != c.want || err != nil {
			t.Errorf("%v: %v, %v", c.err, is, err)
		}
	}
	if _, err := ioPorts(unix.ESRCH); !errors.Is(err, unix.ESRCH) {
		t.Errorf("ESRCH: %v", err)
	}
}
