// Package pidns is the remap table of a container: which virtual id, the one
// the container's processes see, belongs to which host id.
package pidns

import "strconv"

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
