package watched

import (
	"fmt"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kind"
)

// Queued refuses events that nobody has read from what ("inotify"), which cannot
// be put back. Who holds it is there to read them: it only has to be let
// (kind.Busy).
func Queued(d *kind.Dump, desc *kind.Desc, what string) error {
	waiting := func() (int, error) { return unix.IoctlGetInt(int(desc.File.Fd()), unix.TIOCINQ) } // FIONREAD
	n, err := waiting()
	if err != nil {
		return fmt.Errorf("read the size of its queue (FIONREAD): %w", err)
	}
	if n == 0 {
		return nil
	}
	return &kind.Busy{
		Err: failure.WithHint(failure.Unsupportedf("%s: events wait to be read, and cannot be put back", what),
			"try again once the program has read them"),
		Holders: d.Holders(desc),
		Done:    func() bool { n, err := waiting(); return err != nil || n == 0 },
	}
}
