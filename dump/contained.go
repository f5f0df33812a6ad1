package dump

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"ckpt/container"
	"ckpt/failure"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/procfs"
)

// contained is the origin of what lives in a container: all processes of a
// pid namespace.
type contained struct {
	s    *session
	init *kind.Proc // vpid 1; nil until it has been met
}

func (c *contained) home() (tid pidns.HostPID, level int, err error) {
	p, err := procfs.Open(int(c.s.src.Root))
	if err != nil {
		return 0, 0, err
	}
	defer p.Close()
	st, err := p.Status()
	if err != nil {
		return 0, 0, err
	}
	n, err := p.Living()
	return pidns.HostPID(n), pidns.Level(st.NSpid), err
}

func (c *contained) joins() pidns.HostPID { return c.s.src.Root }

func (c *contained) met(root *kind.Proc) error {
	if c.init = root; root == nil || root.VPID != pidns.Init {
		return &failure.Error{Doing: "dump", Err: fmt.Errorf("host pid %d is not the first process of a container", c.s.src.Root)}
	}
	return nil
}

func (c *contained) saves(p, parent *kind.Proc) bool {
	if !c.s.src.NoInit && (p == c.init || p.Zombie && parent == c.init && p.VPID != c.s.src.MainVPID) {
		return false // ckpt's init reaps such a zombie the moment it runs again; nobody else can see it
	}
	return true
}

func (c *contained) unsaved() *kind.Proc {
	if c.s.src.NoInit {
		return nil
	}
	return c.init
}

func (c *contained) orphan(p *kind.Proc) pidns.VPID {
	if p.VPID == pidns.Init {
		return 0
	}
	return pidns.Init
}

// outside: kinds refuse what leads out of a container, in which all begins empty.
func (c *contained) outside() []error { return nil }

func (c *contained) whose() string { return "the container's" }

func (c *contained) namespace(file string) (string, error) {
	if file == "user" {
		return c.user()
	}
	if file == "time" && !c.s.src.NoInit {
		file = "time_for_children" // ckpt's init itself stays in the host's
	}
	return c.init.Lead().FS.Link("ns/" + file)
}

// user is the one that the container's pid namespace belongs to: without
// ckpt's init vpid 1 may have made one for itself.
func (c *contained) user() (string, error) {
	f, err := c.init.Lead().FS.OpenLink("ns/pid", unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer f.Close()
	owner, err := kernel.NamespaceOwner(f)
	if err != nil {
		return "", err
	}
	defer owner.Close()
	return kernel.NamespaceLink("user", owner)
}

func (c *contained) died() error {
	if c.init == nil {
		if _, _, err := c.home(); errors.Is(err, unix.ESRCH) {
			return errors.New("the container ended meanwhile")
		}
		return nil
	}
	if ended(c.init) {
		return container.ErrKilled
	}
	return nil
}

// end kills vpid 1, and with it dies its pid namespace (pid_namespaces(7)).
func (c *contained) end() error {
	return unix.Kill(int(c.s.src.Root), unix.SIGKILL) // still stopped and traced by us: cannot have been reused
}

func (c *contained) counters() (counters, error) {
	maps, err := c.init.FS.MapsOnly()
	if err != nil {
		return counters{}, err
	}
	return c.s.askCounters(c.init, maps, "vpid 1")
}
