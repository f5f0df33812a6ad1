package container

import (
	"encoding/json"

	"golang.org/x/sys/unix"
)

// Tell tells the command that made the supervisor how far its work has come: Launch
// hands v, as JSON, to Request.Told. What comes before the command has taken what it
// was told last is kept for the answer, unless something later is: the work waits for
// nobody. Not after the Maker has returned.
func (r *Request) Tell(v any) error { return r.tell(answerFD, v) }

func (r *Request) tell(to int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	r.last = b
	// FIONREAD, the same as TIOCINQ, of a pipe is what nobody has read yet
	// (pipe_ioctl() in fs/pipe.c).
	if waits, err := unix.IoctlGetInt(to, unix.TIOCINQ); err != nil || waits > 0 {
		return err
	}
	line, err := json.Marshal(Answer{Working: true, Told: b})
	if err != nil {
		return err
	}
	if len(line) < pipeBuf { // else it could be more than there is room for
		_, err = unix.Write(to, append(line, '\n'))
	}
	return err
}

// pipeBuf is PIPE_BUF, what an empty pipe takes at once at least, in bytes (pipe(7)).
const pipeBuf = 4096
