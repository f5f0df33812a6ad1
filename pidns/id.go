// Package pidns is the remap table of a container: which virtual id, the one
// the container's processes see, belongs to which host id.
package pidns

import (
	"slices"
	"strconv"
)

// VPID is an id as the container's processes see it: of a process, a thread,
// a process group or a session. Only VPIDs are ever written into an image.
type VPID int32

// HostPID is the same id as the host's pid namespace numbers it. It is true
// only while the container runs and never leaves the machine.
type HostPID int32

// Init is the virtual pid of the first process of every pid namespace
// (pid_namespaces(7)).
const Init VPID = 1

func (v VPID) String() string    { return strconv.Itoa(int(v)) }
func (h HostPID) String() string { return strconv.Itoa(int(h)) }

// Chain is a task's ids in nested pid namespaces (pid_namespaces(7)), the
// container's own first and the one it lives in last.
type Chain []VPID

// ChainOf takes the part of a list as in /proc/PID/status (NSpid, NSpgid,
// NSsid) that belongs to the container: level is the depth of its pid
// namespace below the one that /proc was mounted for. It is nil for an id
// that the container cannot see: a session or group made outside. So is a
// leader's chain cut where a namespace begins that the leader is not in.
func ChainOf(ns []int, level int) Chain {
	var c Chain
	for _, id := range ns[min(level, len(ns)):] {
		if id == 0 {
			break
		}
		c = append(c, VPID(id))
	}
	return c
}

// Level is the depth of a pid namespace, by a task that lives in it
// (NSpid of /proc/PID/status): 0 for the one that /proc was mounted for.
func Level(nspid []int) int { return len(nspid) - 1 }

// Outer is the id that the container knows; 0: none.
func (c Chain) Outer() VPID {
	if len(c) == 0 {
		return 0
	}
	return c[0]
}

// Own is the id by which a task knows itself; 0: none.
func (c Chain) Own() VPID {
	if len(c) == 0 {
		return 0
	}
	return c[len(c)-1]
}

// Nested are the ids below the container's pid namespace, outer ones first.
func (c Chain) Nested() []VPID {
	if len(c) < 2 {
		return nil
	}
	return slices.Clone(c[1:])
}
