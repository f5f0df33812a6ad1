package dump

import (
	"errors"

	"golang.org/x/sys/unix"

	"ckpt/container"
	"ckpt/failure"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/procfs"
	"ckpt/tracee"
)

const lastPIDName = "kernel/ns_last_pid"

// counters are the numbers of a pid namespace (pid_namespaces(7)).
type counters struct {
	last int // ns_last_pid
	max  int // kernel.pid_max, 0: that of a new one
}

// readCounters asks for those of the container's pid namespace and of those
// below, so that each goes on handing out pids where it stopped, and ends
// where it ended. The files show the reader's namespace, whose first process
// is asked therefore.
func (s *session) readCounters() (err error) {
	if s.counters, err = s.origin.counters(); err != nil {
		return &failure.Error{Doing: "dump", Err: err}
	}
	for _, p := range s.d.Procs {
		if p.VPID != p.Space || p.VPID == pidns.Init || p.Zombie {
			continue
		}
		if err := s.readNestedCounters(p); err != nil {
			return s.fail(p, "", err)
		}
	}
	return nil
}

func (s *session) readNestedCounters(p *kind.Proc) error {
	n, err := s.askCounters(p, p.Maps, "it")
	if errors.Is(err, unix.ENOENT) {
		s.log.Warn("the pids handed out inside begin anew after a restore: it sees no /proc/sys/kernel", "vpid", p.VPID, "comm", p.Comm)
		return nil
	}
	p.Extra.SpaceLastPid, p.Extra.SpacePidMax = uint32(n.last), uint32(n.max)
	return err
}

func (s *session) askCounters(p *kind.Proc, maps []procfs.Map, who string) (n counters, err error) {
	err = s.runIn(p, maps, areaSize, who, func(run tracee.Runner) error {
		n, err = readCounters(run)
		return err
	})
	return n, err
}

// readCounters reads those of the namespace of a process by which calls are
// run. What a new namespace has too is not noted: on a kernel where pid_max is
// the machine's, it always is.
func readCounters(run tracee.Runner) (n counters, err error) {
	if n.last, err = tracee.Sysctl(run, lastPIDName); err != nil {
		return n, err
	}
	if n.max, err = tracee.Sysctl(run, container.PIDMaxName); err != nil || n.max == container.GreatestPIDMax {
		n.max = 0
		return n, err
	}
	fresh, err := container.NewPIDMax()
	if n.max == fresh {
		n.max = 0
	}
	return n, err
}
