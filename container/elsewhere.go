package container

import (
	"errors"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"ckpt/pidns"
	"ckpt/procfs"
)

// Stranger is a container by what everybody can read of its processes: another
// user's, or one that another state directory remembers. Vpid 1 is the first in
// a pid namespace; its parent is a supervisor, whose arguments tell the name
// and the state directory; and where the supervisor was killed, the source of
// its /proc still says that ckpt made it (KeyOf).
type Stranger struct {
	Name       string // "": its supervisor was killed, and nothing tells
	State      string // state directory, as its user names it; "" with Name
	UID        int    // effective user id of who runs it
	Init       int    // host pid of vpid 1
	Supervisor int    // host pid; 0: it was killed
	// Inside: it is in a pid namespace below the one that ckpt is in, where its
	// state directory may be another one.
	Inside bool

	depth int // of its pid namespace, see walker
}

// StrangeMember is a process or thread of a Stranger, by the host's ids and its own.
type StrangeMember struct {
	*Stranger
	VPID, VTID pidns.VPID
	PID, TID   pidns.HostPID
}

// Elsewhere finds the container that the process or thread with this host id
// belongs to as Whose does, without asking a store; nil: none that can be seen.
// Of containers inside containers it is the outermost. No process or thread at
// all is ESRCH.
func Elsewhere(id int) (*StrangeMember, error) {
	path, st, err := lineOf(id)
	if err != nil {
		return nil, err
	}
	for i := range slices.Backward(path[:len(path)-1]) {
		s, err := strangerAt(path[i], path[i+1])
		if err != nil {
			return nil, err
		}
		if s != nil {
			return &StrangeMember{s, at(st.NStgid, s.depth), at(st.NSpid, s.depth), pidns.HostPID(st.Tgid), pidns.HostPID(st.Pid)}, nil
		}
	}
	return nil, nil
}

// StrangersBelow finds the containers whose supervisor the process of the host
// is, or has below it, as Elsewhere does.
func StrangersBelow(pid int) ([]*Stranger, error) {
	pids, err := pidns.Walk(pidns.HostPID(pid))
	if err != nil {
		return nil, err
	}
	seen := map[int]*procfs.Status{}
	within := map[int]bool{} // one that has been found
	var out []*Stranger
	for _, p := range pids { // parents come first
		st, err := statusOf(int(p))
		if errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return nil, err
		}
		seen[st.Pid] = st
		parent := seen[st.PPid]
		if parent == nil {
			continue // the first of them, or given to another meanwhile
		}
		if within[st.PPid] {
			within[st.Pid] = true
			continue
		}
		s, err := strangerAt(st, parent)
		if err != nil {
			return nil, err
		}
		if s != nil {
			out, within[st.Pid] = append(out, s), true
		}
	}
	return out, nil
}

// Deeper is the id that a process or thread has in its own pid namespace; 0: it
// lives in the one that ckpt is in. No process or thread at all is ESRCH.
func Deeper(id int) (pidns.VPID, error) {
	st, err := statusOf(id)
	if err != nil {
		return 0, err
	}
	self, err := statusOf(os.Getpid())
	if err != nil || len(st.NSpid) == len(self.NSpid) {
		return 0, err
	}
	return pidns.ChainOf(st.NSpid, 0).Own(), nil
}

// strangerAt tells of which container a process is vpid 1; nil: of none.
func strangerAt(st, parent *procfs.Status) (*Stranger, error) {
	level := len(parent.NSpid)
	if len(st.NSpid) != level+1 || pidns.VPID(st.NSpid[level]) != pidns.Init {
		return nil, nil
	}
	self, err := statusOf(os.Getpid())
	if err != nil {
		return nil, err
	}
	s := &Stranger{UID: int(st.Uid[1]), Init: st.Pid, Inside: level > len(self.NSpid), depth: level}
	args, err := argsOf(parent.Pid)
	if err != nil {
		return nil, err
	}
	var ok bool
	if s.Name, s.State, ok = supervises(args); ok {
		s.UID, s.Supervisor = int(parent.Uid[1]), parent.Pid
		return s, nil
	}
	key, err := readableKey(st.Pid)
	if key == "" || err != nil {
		return nil, err
	}
	// The parent is in the container, too, where the process has made itself a
	// pid namespace (unshare(1)).
	above, err := readableKey(parent.Pid)
	if key == above || err != nil {
		return nil, err
	}
	return s, nil
}

// argsOf gives none of a process that has ended.
func argsOf(pid int) ([]string, error) {
	p, err := procfs.Open(pid)
	if err != nil {
		return nil, notGone(err)
	}
	defer p.Close()
	args, err := p.Cmdline()
	return args, notGone(err)
}

// readableKey is keyOf; "" of a process that has ended, and has no mounts any
// more (EINVAL, mounts_open_common() in fs/proc_namespace.c).
func readableKey(pid int) (string, error) {
	key, err := keyOf(pid)
	if errors.Is(err, unix.EINVAL) {
		return "", nil
	}
	return key, notGone(err)
}

// lineOf reads a process or thread, and its process with those above that.
func lineOf(id int) (path []*procfs.Status, st *procfs.Status, err error) {
	if st, err = statusOf(id); err != nil {
		return nil, nil, err
	}
	above, err := procfs.Ancestors(st.Tgid)
	if err != nil {
		return nil, nil, err
	}
	path, err = statuses(above)
	return path, st, err
}
