package container

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/pidns"
	"ckpt/procfs"
)

// What is remembered of a container can be lost: by hand, by a disk, by a power
// cut where CKPT_STATE is on one (writeJSON flushes nothing). That harms no
// other container, and Remove clears it away.

// damaged is a container of which nothing is known but its name and, where its
// supervisor lives, its processes.
func (s *Store) damaged(name, dir string, why error) *Container {
	c := &Container{store: s, dir: dir, Record: Record{Name: name}}
	c.damage = failure.WithHint(fmt.Errorf("what ckpt remembers of %s cannot be used: %w", name, why),
		"end its processes, and forget it: ckpt rm -f "+name, "what it wrote is in "+c.Log())
	if err := c.refind(); err != nil {
		c.damage = errors.Join(c.damage, err)
	}
	return c
}

// refind finds the supervisor, if it lives, and by that the first process.
func (c *Container) refind() error {
	if up, err := c.Supervised(); err != nil || !up {
		return err
	}
	pids, err := allPIDs()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if is, err := c.isSupervisor(pid); err != nil {
			return fmt.Errorf("look for the supervisor of %s: %w", c.Name, err)
		} else if is {
			c.Supervisor = pid
			return c.refindInit()
		}
	}
	return nil
}

// isSupervisor tells whether a process was executed as supervisor of a
// container of that name, and has this one's lock open.
func (c *Container) isSupervisor(pid int) (bool, error) {
	p, err := procfs.Open(pid)
	if err != nil {
		return false, notGone(err)
	}
	defer p.Close()
	args, err := p.Cmdline()
	if err != nil {
		return false, notGone(err)
	}
	if name, _, ok := supervises(args); !ok || name != c.Name {
		return false, nil
	}
	return hasOpen(p, c.file(lockFile), unix.O_RDWR)
}

// hasOpen tells whether a process has a file open, in this mode of access. One
// that the caller may not look at has not.
func hasOpen(p *procfs.Proc, path string, mode int) (bool, error) {
	var is unix.Stat_t
	if err := unix.Stat(path, &is); errors.Is(err, unix.ENOENT) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("stat %s: %w", path, err)
	}
	fds, err := p.FDs()
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.ESRCH) {
		return false, nil
	}
	for _, fd := range fds {
		st, err := p.FDStat(fd)
		if err != nil || st.Dev != is.Dev || st.Ino != is.Ino {
			continue
		}
		if info, err := p.FDInfo(fd); err == nil && info.Flags&unix.O_ACCMODE == mode {
			return true, nil
		}
	}
	return false, err
}

// noneLeft refuses where processes may be left of a container whose record and
// supervisor are both lost: one that writes into its log is found, and no more
// can be known of it than that.
func (c *Container) noneLeft() error {
	pids, err := allPIDs()
	if err != nil {
		return err
	}
	var left []error
	for _, pid := range pids {
		p, err := procfs.Open(pid)
		if err != nil {
			continue
		}
		writes, err := hasOpen(p, c.Log(), unix.O_WRONLY)
		comm, _ := p.Comm()
		p.Close()
		if err != nil {
			return err
		}
		if writes {
			left = append(left, failure.WithHint(fmt.Errorf("host pid %d (%s) writes into its log, and may be of it", pid, comm),
				fmt.Sprintf("end it first: kill -KILL %d", pid)))
		}
	}
	return errors.Join(left...)
}

func allPIDs() ([]int, error) {
	root, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return procfs.PIDs(root)
}

// refindInit: the first process is the child of the supervisor that is the first
// in a pid namespace.
func (c *Container) refindInit() error {
	p, err := procfs.Open(c.Supervisor)
	if err != nil {
		return notGone(err)
	}
	defer p.Close()
	children, err := p.Children()
	if err != nil {
		return notGone(err)
	}
	for _, pid := range children {
		child, st, err := openAlive(pid)
		if err != nil {
			return err
		}
		if child == nil {
			continue
		}
		ids, err := child.Status()
		child.Close()
		if err != nil || ids.NSpid[len(ids.NSpid)-1] != int(pidns.Init) {
			continue
		}
		c.Init, c.InitStart = pid, st.StartTime
		c.BootID, err = bootID()
		return err
	}
	return nil
}
