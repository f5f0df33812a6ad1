package main

import (
	"errors"
	"fmt"
	"strings"

	"ckpt/container"
	"ckpt/failure"
	"ckpt/pidns"
)

// strangerText names a container that the state directory of this command does
// not know.
func strangerText(s *container.Stranger) string {
	switch {
	case s.Name == "":
		return fmt.Sprintf("a container of user %d whose supervisor was killed, so that nothing tells its name", s.UID)
	case s.State == "":
		return fmt.Sprintf("container %s of user %d", s.Name, s.UID)
	}
	return fmt.Sprintf("container %s of user %d (state directory %s)", s.Name, s.UID, commandText([]string{s.State}))
}

// strangerHint is how its user would have ckpt act on it: todo says what for,
// and args are the arguments, without its name.
func (a *app) strangerHint(s *container.Stranger, todo, verb string, args ...string) string {
	whose := ""
	switch {
	case s.Inside:
		whose = "inside the pid namespace it was started in, "
	case s.UID != a.uid:
		whose = fmt.Sprintf("as user %d, ", s.UID)
	}
	if s.Name == "" {
		return whose + "find it by its state directory: CKPT_STATE=DIRECTORY ckpt ps"
	}
	cmd := append([]string{"ckpt", verb, s.Name}, args...)
	if s.State != "" {
		cmd = append([]string{"CKPT_STATE=" + failure.Quote(s.State)}, cmd...)
	}
	return fmt.Sprintf("%s%s: %s", whose, todo, strings.Join(cmd, " "))
}

// idText says whose a host id is: "host pid 812 is pid 2 of container train".
func idText(pid, tid pidns.HostPID, vpid, vtid pidns.VPID, of string) string {
	if tid != pid {
		return fmt.Sprintf("host tid %d is thread %d of pid %d of %s", tid, vtid, vpid, of)
	}
	return fmt.Sprintf("host pid %d is pid %d of %s", pid, vpid, of)
}

func strangeMemberText(m *container.StrangeMember) string {
	return idText(m.PID, m.TID, m.VPID, m.VTID, strangerText(m.Stranger))
}

// notStrange refuses to save what is part of a container that the state
// directory does not know.
func (a *app) notStrange(pid int) error {
	m, err := container.Elsewhere(pid)
	if err != nil || m == nil {
		return err
	}
	return failure.WithHint(errors.New(strangeMemberText(m)), a.strangerHint(m.Stranger, "save the container", "dump", "DIR"))
}

// strangersBelow refuses a tree that has such containers in it.
func (a *app) strangersBelow(pid int, comm string, known []*container.Container) (refused []error, err error) {
	below, err := container.StrangersBelow(pid)
	for _, s := range below {
		if !knows(known, s) {
			refused = append(refused, failure.WithHint(insideTree(strangerText(s), pid, comm),
				a.strangerHint(s, "save it by itself", "dump", "DIR"), noneBelow))
		}
	}
	return refused, err
}

func knows(known []*container.Container, s *container.Stranger) bool {
	for _, c := range known {
		if c.Init == s.Init {
			return true
		}
	}
	return false
}
