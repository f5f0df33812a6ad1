package dump

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/tracee"
)

const (
	lastPIDFile = "/proc/sys/kernel/ns_last_pid"
	atFDCWD     = ^uint64(99) // AT_FDCWD as an argument of a system call
)

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
	p.Extra.SpaceLastPid, err = lastPID(func(build, read func(*tracee.Script) error) error {
		script := tracee.NewScript(inj.Site().Base)
		if err := build(script); err != nil {
			return err
		}
		if err := inj.Run(p.Lead().Traced, script); err != nil {
			return err
		}
		return read(script)
	})
	if errors.Is(err, unix.ENOENT) {
		s.log.Warn("the pids handed out inside begin anew after a restore: it sees no /proc/sys/kernel/ns_last_pid", "vpid", p.VPID, "comm", p.Comm)
		err = nil
	}
	return err
}

// lastPID reads ns_last_pid in a process by which calls are run.
func lastPID(run func(build, read func(*tracee.Script) error) error) (uint32, error) {
	var fd, buf, got uint64
	var step tracee.Step
	result := func(into *uint64) func(*tracee.Script) error {
		return func(sc *tracee.Script) (err error) {
			*into, err = sc.Result(step)
			return err
		}
	}
	if err := run(func(sc *tracee.Script) error {
		step = sc.Try(unix.SYS_OPENAT, atFDCWD, sc.Str(lastPIDFile), unix.O_RDONLY|unix.O_CLOEXEC)
		return nil
	}, result(&fd)); err != nil {
		return 0, fmt.Errorf("open ns_last_pid: %w", err)
	}
	var text string
	err := run(func(sc *tracee.Script) error {
		buf = sc.Space(16)
		step = sc.Must(unix.SYS_READ, fd, buf, 16)
		sc.Must(unix.SYS_CLOSE, fd)
		return nil
	}, func(sc *tracee.Script) error {
		err := result(&got)(sc)
		if err == nil {
			text = string(sc.Bytes(buf, int(got)))
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("read ns_last_pid: %w", err)
	}
	return parseLastPID(text)
}

func parseLastPID(text string) (uint32, error) {
	last, err := strconv.ParseUint(strings.TrimSpace(text), 10, 31)
	if err != nil {
		return 0, fmt.Errorf("ns_last_pid: %w", err)
	}
	return uint32(last), nil
}
