package kind

import (
	"fmt"
	"os"
	"slices"
	"strconv"

	"ckpt/pidns"
	"ckpt/procfs"
)

// HolderOutside is a process outside of the container with a descriptor whose
// link in /proc is that one ("pipe:[7]"), and for which is holds, if not nil, by
// its host pid; 0: none can be seen. An ordinary user sees but his own. It looks
// at every process of the machine: only for what is about to be refused.
func (d *Dump) HolderOutside(link string, is func(*procfs.FDInfo) bool) (pid int) {
	all, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	for _, e := range all {
		pid, err := strconv.Atoi(e.Name())
		ours := func(p *Proc) bool { return p.Host == pidns.HostPID(pid) }
		// ckpt has what it has found.
		if err == nil && pid != os.Getpid() && !slices.ContainsFunc(d.Procs, ours) && holds(pid, link, is) {
			return pid
		}
	}
	return 0
}

func holds(pid int, link string, is func(*procfs.FDInfo) bool) bool {
	p, err := procfs.Open(pid)
	if err != nil {
		return false
	}
	defer p.Close()
	fds, err := p.FDs()
	if err != nil {
		return false
	}
	for _, fd := range fds {
		if l, err := p.FDLink(fd); err != nil || l != link {
			continue
		}
		if is == nil {
			return true
		}
		if info, err := p.FDInfo(fd); err == nil && is(info) {
			return true
		}
	}
	return false
}

// Named is how a message calls a process outside of the container, by its host
// pid; "": it cannot be seen.
func Named(pid int) string {
	p, err := procfs.Open(pid)
	if err != nil {
		return ""
	}
	defer p.Close()
	st, err := p.Status()
	if err != nil {
		return ""
	}
	return fmt.Sprintf("host pid %d (%s)", pid, st.Name)
}
