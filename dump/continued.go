package dump

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"

	"ckpt/kind"
	"ckpt/tracee"
)

// That a process has gone on after a stop, and that its parent has not waited
// for that (WCONTINUED), nothing shows but waitid(2), called by the parent. With
// WNOWAIT the answer stays for it.
const peekContinued = unix.WCONTINUED | unix.WNOHANG | unix.WNOWAIT | unix.WALL

// siginfoSize is that of a siginfo_t.
const siginfoSize = 128

// peek adds that call. Where nothing waits, or where a filter of system calls
// forbids it, there is no SIGCHLD in what it gives.
func peek(script *tracee.Script, which int, id uint64) (found func() bool) {
	info := script.Space(siginfoSize)
	step := script.Try(unix.SYS_WAITID, uint64(which), id, info, peekContinued, 0)
	return func() bool {
		_, err := script.Result(step)
		return err == nil && binary.NativeEndian.Uint32(script.Bytes(info, 4)) == uint32(unix.SIGCHLD)
	}
}

// peeked is how many children are asked for in one script.
const peeked = 1000

// findContinued notes which children of p have gone on, when one has.
func (s *session) findContinued(inj *tracee.Injection, p *kind.Proc) error {
	var children []*kind.Proc
	for _, c := range s.d.Procs {
		if c.Parent == p && !c.Zombie {
			children = append(children, c)
		}
	}
	for some := range slices.Chunk(children, peeked) {
		script := tracee.NewScript(inj.Site().Base)
		found := make([]func() bool, len(some))
		for i, c := range some {
			found[i] = peek(script, unix.P_PID, uint64(c.Chain[len(p.Chain)-1]))
		}
		if err := s.runScript(inj, p, p.Lead(), script, nil); err != nil {
			return err
		}
		for i, c := range some {
			c.Extra.Continued = found[i]()
		}
	}
	return nil
}
