package dump

import (
	"fmt"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kind"
	"ckpt/tracee"
)

// roomToRestore is the room of addresses that a restore takes in a process, in
// bytes, and a little more: scripts, and what is moved out of the way.
const roomToRestore = 80 << 20

// room refuses a process in which there is none for ckpt's calls: it could not be
// asked, or not be rebuilt.
func (s *session) room(p *kind.Proc) error {
	limits, err := p.FS.Limits()
	if err != nil {
		return fmt.Errorf("read its limits: %w", err)
	}
	if most := limits[unix.RLIMIT_AS].Soft; p.Status.HasVM && (p.Status.VmSize > most || most-p.Status.VmSize < areaSize) {
		return failure.WithHint(failure.Unsupportedf("it may have %d kB of address space (RLIMIT_AS) and has %d, which leaves no %d kB for ckpt's calls", most>>10, p.Status.VmSize>>10, areaSize>>10),
			fmt.Sprintf("raise the limit while it runs: prlimit --pid %d --as=%d:", p.Host, p.Status.VmSize+areaSize))
	}
	if len(p.Maps) == 0 {
		return nil // refused before they were read
	}
	return tracee.Room(p.Maps, roomToRestore)
}
