package dump

import (
	"ckpt/kind"
	"ckpt/pidns"
)

// origin is where the processes to be saved live. What depends on it stands
// here, and the order of work knows one sort of process only.
type origin interface {
	// home is Dump.Home, and the level (pidns.Level) of the pid namespace whose
	// ids they are saved with.
	home() (task pidns.HostPID, level int, err error)
	// joins is a process in whose namespaces the bare child for Dump.Inside is.
	joins() pidns.HostPID
	// met looks at the first process of the walk, which is nil if it is gone,
	// when it is known who that is.
	met(root *kind.Proc) error
	// saves tells whether a process of the walk goes into the image; parent is
	// nil if it is not of the walk.
	saves(p, parent *kind.Proc) bool
	// unsaved is the first process, where it stays out of the image and those
	// that are in it may refer to it; else nil.
	unsaved() *kind.Proc
	// orphan is whose child a process is that has no parent among those saved.
	orphan(p *kind.Proc) pidns.VPID
	// outside refuses what is held by processes outside, too, once descriptors
	// and mappings of all are known.
	outside() []error
	// whose is who has the namespaces, for messages.
	whose() string
	// namespace reads the link that the same file of a process (as in
	// /proc/PID/ns) must agree with.
	namespace(file string) (string, error)
	// counters are those of the pid namespace they live in.
	counters() (counters, error)
	// died tells the cause of an error if it is that all of them ended.
	died() error
	// end kills them all at one stroke.
	end() error
}

func originOf(s *session) origin {
	if s.src.Adopted {
		return hostTree{s}
	}
	return &contained{s: s}
}
