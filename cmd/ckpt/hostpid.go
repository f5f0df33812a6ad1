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
	"ckpt/procfs"
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
	if procfs.Hides(pid, err) {
		return dump.Source{}, hidden(pid)
	}
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return dump.Source{}, err
	}
	if m != nil {
		return dump.Source{}, failure.WithHint(errors.New(memberText(m)), fmt.Sprintf("save the container: ckpt dump %s DIR", m.Container.Name))
	}
	if err := a.notStrange(pid); err != nil && !errors.Is(err, unix.ESRCH) {
		return dump.Source{}, err
	}
	src, err := dump.Adopt(pidns.HostPID(pid)) // tells of an ESRCH
	if err != nil {
		return dump.Source{}, err
	}
	below, err := s.Below(pid)
	if err != nil {
		return dump.Source{}, err
	}
	refused, err := a.strangersBelow(pid, src.Comm, below)
	if err != nil {
		return dump.Source{}, err
	}
	for _, c := range below {
		refused = append(refused, failure.WithHint(insideTree("container "+c.Name, pid, src.Comm),
			fmt.Sprintf("save it by itself: ckpt dump %s DIR", c.Name), noneBelow))
	}
	src.Name = container.NameOf(src.Command)
	return src, errors.Join(refused...)
}

func insideTree(what string, pid int, comm string) error {
	return failure.Unsupportedf("%s is below pid %d (%s): a container inside a tree is not carried", what, pid, comm)
}

const noneBelow = "give a pid that has no container below it"

func memberText(m *container.Member) string {
	return idText(m.PID, m.TID, m.VPID, m.VTID, "container "+m.Container.Name)
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
	if m == nil && err == nil {
		err = a.noMember(s, pid)
	}
	if procfs.Hides(pid, err) {
		return hidden(pid)
	}
	if errors.Is(err, unix.ESRCH) {
		return failure.WithHint(fmt.Errorf("there is no process or thread %d on the host", pid), "`ckpt ps NAME` lists those of a container by both their ids")
	}
	if err != nil {
		return err
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

func hidden(pid int) error {
	return failure.WithHint(fmt.Errorf("whose %d is cannot be told: this /proc hides the processes of others (hidepid)", pid),
		"ask as root, or as the user it belongs to")
}

// noMember tells what a host id is that belongs to no container of the state
// directory.
func (a *app) noMember(s *container.Store, pid int) error {
	m, err := container.Elsewhere(pid)
	if err != nil {
		return err
	}
	if m != nil {
		return failure.WithHint(failure.Mark(failure.ErrNoContainer, errors.New(strangeMemberText(m))), a.strangerHint(m.Stranger, "look at it", "ps"))
	}
	if err = noContainer(pid); !errors.Is(err, failure.ErrNoContainer) {
		return err
	}
	below, berr := s.Below(pid)
	if berr != nil {
		return berr
	}
	for _, c := range below {
		if c.Supervisor == pid {
			return failure.WithHint(err, fmt.Sprintf("it is the supervisor of container %s", c.Name))
		}
	}
	strangers, berr := container.StrangersBelow(pid)
	if berr != nil {
		return berr
	}
	for _, c := range strangers {
		if c.Supervisor == pid {
			return failure.WithHint(err, "it is the supervisor of "+strangerText(c))
		}
	}
	return err
}

// noContainer tells where a process lives that is in no container.
func noContainer(pid int) error {
	vpid, err := container.Deeper(pid)
	if err != nil {
		return err
	}
	key, err := container.KeyOf()
	if err != nil {
		return err
	}
	text := fmt.Sprintf("host pid %d is in no container: it is the host's own", pid)
	switch {
	case vpid != 0: // by setns(2), perhaps, into that of a container
		text = fmt.Sprintf("host pid %d is in no container that ckpt can tell: it is pid %d of another pid namespace", pid, vpid)
	case key != "":
		text = fmt.Sprintf("pid %d is in no container but the one that ckpt itself is in", pid)
	}
	return failure.Mark(failure.ErrNoContainer, errors.New(text))
}

// memberTable is what `ckpt ps --pid PID` prints.
func memberTable(m *container.Member) string {
	cols := []column{{"NAME", false}, {"VPID", true}, {"PID", true}, {"VTID", true}, {"TID", true}, {"STATE", false}, {"COMMAND", false}}
	return table(cols, [][]string{{m.Container.Name, m.VPID.String(), m.PID.String(), m.VTID.String(), m.TID.String(), string(m.Process.State), runs(m.Process)}}, 2)
}
