package procfs

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Ancestors are a process and those above it, upwards, as far as this /proc
// shows them. ESRCH: the process itself is gone.
func Ancestors(pid int) ([]int, error) {
	var out []int
	for at := pid; at > 0; {
		parent, err := parentOf(at)
		switch {
		case errors.Is(err, unix.ESRCH) && at != pid:
			out, at = nil, pid // it has just ended: who was below has another parent now
		case err != nil:
			return nil, fmt.Errorf("look at what is above host pid %d: %w", pid, err)
		default:
			out, at = append(out, at), parent
		}
	}
	return out, nil
}

func parentOf(pid int) (int, error) {
	p, err := Open(pid)
	if err != nil {
		return 0, err
	}
	defer p.Close()
	st, err := p.Stat()
	if err != nil {
		return 0, err
	}
	return st.PPid, nil
}
