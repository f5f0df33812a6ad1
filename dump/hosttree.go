package dump

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/procfs"
	"ckpt/tracee"
)

// hostTree is the origin of a process that ckpt did not start and of all that
// descends from it. They live in the pid namespace that ckpt is in, and in
// all its other ones, and what those hold is not theirs. Their ids there
// become their virtual ids.
//
// What has left the tree, because its parent ended, is not of it.
type hostTree struct{ s *session }

func (h hostTree) home() (task pidns.HostPID, level int, err error) {
	st, err := h.s.self.Status()
	if err != nil {
		return 0, 0, err
	}
	return pidns.HostPID(os.Getpid()), pidns.Level(st.NSpid), nil
}

func (h hostTree) joins() pidns.HostPID { return pidns.HostPID(os.Getpid()) }

func (h hostTree) met(root *kind.Proc) error {
	switch {
	case root == nil || root.Zombie:
		return &failure.Error{Doing: "dump", Err: h.gone()}
	case len(root.Chain) != 1:
		return h.s.fail(root, "", failure.WithHint(failure.Unsupportedf("it lives in another pid namespace than ckpt (a container's, perhaps)"),
			"save a container with what runs it, that of ckpt by its name"))
	}
	return nil
}

func (h hostTree) gone() error { return fmt.Errorf("pid %d ended meanwhile", h.s.src.Root) }

func (h hostTree) saves(*kind.Proc, *kind.Proc) bool { return true }

func (h hostTree) unsaved() *kind.Proc { return nil }

// orphan: the parent is left behind, and ckpt's init takes its place.
func (h hostTree) orphan(*kind.Proc) pidns.VPID { return pidns.Init }

func (h hostTree) outside() []error {
	return append(h.s.sharedOutside(), h.s.sharedWithParent(h.s.procs[int(h.s.src.Root)]))
}

func (h hostTree) whose() string { return "ckpt's" }

func (h hostTree) namespace(file string) (string, error) { return h.s.self.Link("ns/" + file) }

// counters: how far the host's ids go is not of the tree.
func (h hostTree) counters() (n counters, err error) {
	n.last, err = procfs.Sysctl(lastPIDName)
	return n, err
}

func (h hostTree) died() error {
	p, err := procfs.Open(int(h.s.src.Root))
	if err == nil {
		defer p.Close()
		_, err = p.Living()
	}
	if errors.Is(err, unix.ESRCH) {
		return h.gone()
	}
	return nil
}

// end lets the bare child kill them, in one script that goes on to its end
// when ckpt itself is killed meanwhile: once it has begun all are as good as
// dead, and before nothing has been done to any.
func (h hostTree) end() error {
	live := slices.DeleteFunc(slices.Clone(h.s.order), func(p *kind.Proc) bool { return p.Zombie })
	err := h.endByHand(live)
	if err == nil {
		return nil
	}
	h.s.log.Info("the processes are killed one after the other", "why", err)
	var left []error // all are still traced by us: none of their numbers has been given away
	for _, p := range live {
		if err := unix.Kill(int(p.Host), unix.SIGKILL); err != nil {
			left = append(left, fmt.Errorf("kill pid %d: %w", p.Host, err))
		}
	}
	return errors.Join(left...)
}

func (h hostTree) endByHand(live []*kind.Proc) error {
	return h.s.whole(areaSize, func(sc *tracee.Script) error {
		for _, p := range live {
			sc.Try(unix.SYS_KILL, uint64(p.Host), uint64(unix.SIGKILL))
		}
		return nil
	}, nil)
}
