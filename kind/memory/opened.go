package memory

import (
	"ckpt/kind"
	"ckpt/procfs"
)

// zero is how a descriptor of shared anonymous memory is shown, and a mapping
// of it that has no name of its own.
const zero = "/dev/zero"

// opened is the shared anonymous memory that somebody has as a file. Root can
// open it by /proc/PID/map_files, and then there may be descriptors and private
// mappings of it, too. That is saved as what it comes closest to: a memfd.
func (s *saver) opened(d *kind.Dump) map[object]bool {
	if s.asFile != nil {
		return s.asFile
	}
	s.asFile = map[object]bool{}
	for _, p := range d.Procs {
		for _, fd := range p.Fds {
			if fd.Desc.Link == zero+" (deleted)" {
				s.asFile[object{fd.Desc.Stat.Dev, fd.Desc.Stat.Ino}] = true
			}
		}
		for i := range p.Maps {
			if m := &p.Maps[i]; !m.Shared && m.Deleted && m.Path == zero {
				s.asFile[object{m.Dev, m.Ino}] = true
			}
		}
	}
	return s.asFile
}

// isShared tells whether a mapping is one of shared anonymous memory that
// nobody has as a file.
func (s *saver) isShared(d *kind.Dump, m *procfs.Map) bool {
	return isAnonShared(m) && !s.opened(d)[object{m.Dev, m.Ino}]
}
