package dump

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/tracee"
)

const lastPIDName = "kernel/ns_last_pid"

// readLastPIDs asks for ns_last_pid of the container's pid namespace and of
// those below, so that each goes on handing out pids where it stopped. The
// file shows the reader's namespace (pid_namespaces(7)), whose first process
// is asked therefore.
func (s *session) readLastPIDs() (err error) {
	if s.lastPID, err = s.origin.lastPID(); err != nil {
		return &failure.Error{Doing: "dump", Err: err}
	}
	for _, p := range s.d.Procs {
		if p.VPID != p.Space || p.VPID == pidns.Init || p.Zombie {
			continue
		}
		if err := s.readNestedLastPID(p); err != nil {
			return s.fail(p, "", err)
		}
	}
	return nil
}

func (s *session) readNestedLastPID(p *kind.Proc) (err error) {
	inj, err := tracee.Inject(p.Lead().Traced, p.Maps, areaSize)
	if err != nil {
		return fmt.Errorf("run calls in it: %w", err)
	}
	s.injected = append(s.injected, inj)
	defer func() {
		s.injected = s.injected[:len(s.injected)-1]
		err = errors.Join(err, inj.Remove())
	}()
	last, err := tracee.Sysctl(inj.Runner(p.Lead().Traced, "it"), lastPIDName)
	p.Extra.SpaceLastPid = uint32(last)
	if errors.Is(err, unix.ENOENT) {
		s.log.Warn("the pids handed out inside begin anew after a restore: it sees no /proc/sys/kernel/ns_last_pid", "vpid", p.VPID, "comm", p.Comm)
		err = nil
	}
	return err
}
