package tree

import (
	"golang.org/x/sys/unix"

	"ckpt/pidns"
)

// kin is one process while the steps are followed.
type kin struct {
	parent    pidns.VPID
	signal    unix.Signal // its exit signal
	first     bool        // of a pid namespace
	subreaper bool
}

// Told gives the signals that the ends among the steps send to each process, in
// their order: the exit signals of zombies, and of helpers, which may hand one
// on by CLONE_PARENT. SIGCHLD, which nearly all send, is left out.
func Told(steps []Step) map[pidns.VPID][]unix.Signal {
	told := map[pidns.VPID][]unix.Signal{}
	family := map[pidns.VPID]*kin{pidns.Init: {first: true}}
	for _, step := range steps {
		switch s := step.(type) {
		case Fork:
			c := &kin{parent: s.Parent, signal: s.ExitSignal, first: s.Flags&unix.CLONE_NEWPID != 0}
			if s.Flags&unix.CLONE_PARENT != 0 {
				c.parent, c.signal = family[s.Parent].parent, family[s.Parent].signal
			}
			family[s.Child] = c
		case Subreaper:
			family[s.P].subreaper = s.On
		case Exit:
			p := family[s.P]
			if p.signal != 0 && p.signal != unix.SIGCHLD {
				told[p.parent] = append(told[p.parent], p.signal)
			}
			heir := p.parent // of its children: the nearest that takes orphans
			for !family[heir].first && !family[heir].subreaper {
				heir = family[heir].parent
			}
			for _, c := range family {
				if c.parent == s.P {
					c.parent, c.signal = heir, unix.SIGCHLD
				}
			}
		}
	}
	return told
}
