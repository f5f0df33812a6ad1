package main

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"ckpt/container"
	"ckpt/dump"
	"ckpt/failure"
	"ckpt/pidns"
)

// hostPID is the value of --pid: decimal digits, so that one with zeros before
// it is no octal number, and none that a pid cannot be, so that none is cut off
// to become another's.
type hostPID int

func (p *hostPID) String() string { return strconv.Itoa(int(*p)) }
func (p *hostPID) Type() string   { return "int" }

func (p *hostPID) Set(s string) error {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		return errors.New("it is no number of a process")
	}
	*p = hostPID(n)
	return nil
}

// checkPID refuses what is nobody's pid anywhere.
func checkPID(pid int) error {
	if pid > 0 {
		return nil
	}
	return usage(fmt.Errorf("--pid %d is no number of a process", pid), "`ps -e` lists those there are")
}

// adopt is the source for the tree of a host pid, which belongs to no
// container and has none below it.
func (a *app) adopt(pid int) (dump.Source, error) {
	if err := checkPID(pid); err != nil {
		return dump.Source{}, err
	}
	s, err := a.store(false)
	if err != nil {
		return dump.Source{}, err
	}
	m, err := s.Whose(pid)
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return dump.Source{}, err
	}
	if m != nil {
		return dump.Source{}, failure.WithHint(errors.New(memberText(m)), fmt.Sprintf("save the container: ckpt dump %s DIR", m.Container.Name))
	}
	src, err := dump.Adopt(pidns.HostPID(pid)) // tells of an ESRCH
	if err != nil {
		return dump.Source{}, err
	}
	below, err := s.Below(pid)
	if err != nil {
		return dump.Source{}, err
	}
	var refused []error
	for _, c := range below {
		refused = append(refused, failure.WithHint(
			failure.Unsupportedf("container %s is below pid %d (%s): a container inside a tree is not carried", c.Name, pid, src.Comm),
			fmt.Sprintf("save it by itself: ckpt dump %s DIR", c.Name), "give a pid that has no container below it"))
	}
	src.Name = container.NameOf(src.Command)
	return src, errors.Join(refused...)
}

// memberText says whose a host id is: "host pid 812 is pid 2 of container train".
func memberText(m *container.Member) string {
	text := fmt.Sprintf("host pid %d is pid %d of container %s", m.PID, m.VPID, m.Container.Name)
	if int(m.TID) != int(m.PID) {
		text = fmt.Sprintf("host tid %d is thread %d of pid %d of container %s", m.TID, m.VTID, m.VPID, m.Container.Name)
	}
	return text
}

// psOfPID tells which container a host id belongs to. To belong to none is
// what a script wants to know by the exit code: that of no such container.
func psOfPID(a *app, pid int, asJSON bool) error {
	if err := checkPID(pid); err != nil {
		return err
	}
	s, err := a.store(false)
	if err != nil {
		return err
	}
	m, err := s.Whose(pid)
	if errors.Is(err, unix.ESRCH) {
		return failure.WithHint(fmt.Errorf("there is no process or thread %d on the host", pid), "`ckpt ps NAME` lists those of a container by both their ids")
	}
	if err != nil {
		return err
	}
	if m == nil {
		return noneOf(s, pid)
	}
	if !asJSON {
		_, err = fmt.Fprint(a.out, memberTable(m))
		return err
	}
	state, err := m.Container.State()
	if err != nil {
		return err
	}
	p := processJSON(m.Process)
	if int(m.TID) != int(m.PID) {
		p.Threads = []psThread{psThread(m.Thread)}
	}
	return a.printJSON([]psContainer{{Name: m.Container.Name, State: state, Processes: []psProcess{p}}})
}

func noneOf(s *container.Store, pid int) error {
	below, err := s.Below(pid)
	if err != nil {
		return err
	}
	err = failure.Mark(failure.ErrNoContainer, fmt.Errorf("host pid %d is in no container: it is the host's own", pid))
	for _, c := range below {
		if c.Supervisor == pid {
			return failure.WithHint(err, fmt.Sprintf("it is the supervisor of container %s", c.Name))
		}
	}
	return err
}

// memberTable is what `ckpt ps --pid PID` prints.
func memberTable(m *container.Member) string {
	cols := []column{{"NAME", false}, {"VPID", true}, {"PID", true}, {"VTID", true}, {"TID", true}, {"STATE", false}, {"COMMAND", false}}
	return table(cols, [][]string{{m.Container.Name, m.VPID.String(), m.PID.String(), m.VTID.String(), m.TID.String(), string(m.Process.State), runs(m.Process)}}, 2)
}
