package procfs

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Ancestors are a process and those above it, upwards, as far as this /proc
// shows them: not past one in an outer pid namespace, nor past one that it
// hides (hidepid of proc(5)). ESRCH: the process itself is gone.
func Ancestors(pid int) ([]int, error) {
	var out []int
	hidden := 0
	for at := pid; at > 0 && at != hidden; {
		parent, err := parentOf(at)
		switch {
		case errors.Is(err, unix.EPERM) && at != pid:
			hidden = at
		case errors.Is(err, unix.ESRCH) && at != pid:
			// It has just ended, and who was below has another parent now; or
			// else it is hidden.
			below := out[len(out)-1]
			if now, err := parentOf(below); err == nil && now == at {
				hidden = at
				continue
			}
			out, at = nil, pid
		case err != nil:
			return nil, fmt.Errorf("look at what is above host pid %d: %w", pid, err)
		default:
			out, at = append(out, at), parent
		}
	}
	return out, nil
}

// Hides tells whether there is a process or thread of this id that /proc shows
// nothing of, or hardly anything (hidepid of proc(5)); err is what reading of it
// failed with.
func Hides(id int, err error) bool {
	if errors.Is(err, unix.ESRCH) {
		err = unix.Kill(id, 0)
	}
	return errors.Is(err, unix.EPERM)
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
