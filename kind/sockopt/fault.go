package sockopt

import (
	"fmt"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kernel"
	"ckpt/kind"
)

// CheckError refuses a socket with an error that has not been read, or with
// something in its error queue (SO_ERROR of socket(7), MSG_ERRQUEUE of
// recvmsg(2)): both can be read only by taking them, and nobody can put them
// back.
func CheckError(d *kind.Dump, desc *kind.Desc) error {
	is, err := faulty(desc.File.Fd())
	if !is || err != nil {
		return err
	}
	err = failure.WithHint(failure.Unsupportedf("an error, or what has become of something it has sent, waits to be read (SO_ERROR, MSG_ERRQUEUE)"),
		"try again in a moment, when the program has read it", "or let the program close it")
	return &kind.Busy{Err: err, Holders: d.Holders(desc), Done: func() bool {
		is, err := faulty(desc.File.Fd())
		return !is || err != nil
	}}
}

func faulty(fd uintptr) (bool, error) {
	shows, err := kernel.Poll(fd, 0) // which shows POLLERR all the same
	if err != nil {
		return false, fmt.Errorf("poll it: %w", err)
	}
	return shows&unix.POLLERR != 0, nil
}
