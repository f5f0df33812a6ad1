package memory

import (
	"golang.org/x/sys/unix"

	"ckpt/kind"
	"ckpt/procfs"
	"ckpt/tracee"
)

const (
	// sparse is how much of shared memory has to be missing in a process, in bytes,
	// for it to be asked what of it there is.
	sparse = 16 << 20
	// askedPages is of how many pages it is asked at a time, a byte each.
	askedPages = 1 << 18
)

// findResident finds what there is of shared memory that is read through a mapping,
// the ordinary user's way: that gives each hole that it meets a page, and a program
// may have reserved more than the machine has. A page that is swapped out mincore(2)
// does not tell from a hole: where there are such, all is read.
func (s *saver) findResident(d *kind.Dump) error {
	if d.Privileged {
		return nil // /proc/PID/map_files shows the holes
	}
	for _, p := range d.Procs {
		if p.Zombie || p.SharesVM != nil {
			continue
		}
		for i := range p.Maps {
			m := &p.Maps[i]
			if !s.isShared(d, m) || m.Has("ht") || m.Swap > 0 || m.Len() < m.Rss+sparse {
				continue
			}
			if err := d.As(p, 2*askedPages, func(run tracee.Runner) (err error) {
				s.there[m], err = resident(run, m)
				return err
			}); err != nil {
				return err
			}
		}
	}
	return nil
}

// resident gives the parts of m that there are, as offsets in its object.
func resident(run tracee.Runner, m *procfs.Map) (there []kind.Range, err error) {
	there = []kind.Range{}
	for at := m.Start; at < m.End && err == nil; at += askedPages * page {
		n := min((m.End-at)/page, askedPages)
		var vec uint64
		err = run(func(s *tracee.Script) error {
			vec = s.Space(int(n))
			s.Note(s.Must(unix.SYS_MINCORE, at, n*page, vec), "ask what there is of shared memory")
			return nil
		}, func(s *tracee.Script) error {
			there = appendResident(there, m.Offset+at-m.Start, s.Bytes(vec, int(n)))
			return nil
		})
	}
	return there, err
}

// appendResident adds what vec of mincore(2) tells of pages from an offset on.
func appendResident(there []kind.Range, off uint64, vec []byte) []kind.Range {
	for _, v := range vec {
		if v&1 != 0 {
			if last := len(there) - 1; last >= 0 && there[last].End == off {
				there[last].End += page
			} else {
				there = append(there, kind.Range{Start: off, End: off + page})
			}
		}
		off += page
	}
	return there
}
