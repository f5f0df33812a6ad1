package memory

import (
	"bytes"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/procfs"
)

// family finds the pages that a process still has in common with its parent,
// since it was forked. Nothing tells an ordinary user which page of memory two
// processes map; but that one is mapped more than once is told to all, and if
// the parent has the same in its own, it makes no difference whether that was it.
type family struct {
	maps         []procfs.Map // the parent's that have not been passed yet
	pagemap, mem *os.File     // the parent's
	buf          []byte
	common       []bool
	regions      []kernel.PageRegion
	found        []*image.Range
}

// familyOf is nil for a process that has nothing of its parent's: it has
// executed a program since.
func familyOf(p *kind.Proc) (*family, error) {
	q := p.Parent
	if q == nil || q.Zombie || p.Stat.Flags&procfs.PFForkNoExec == 0 {
		return nil, nil
	}
	if q.SharesVM != nil {
		q = q.SharesVM
	}
	f := &family{maps: q.Maps, buf: make([]byte, chunk), common: make([]bool, chunk/page), regions: make([]kernel.PageRegion, chunk/page)}
	var err error
	if f.pagemap, err = q.FS.OpenFile("pagemap", os.O_RDONLY|unix.O_CLOEXEC); err != nil {
		return nil, err
	}
	if f.mem, err = q.FS.OpenFile("mem", os.O_RDONLY|unix.O_CLOEXEC); err != nil {
		_ = f.pagemap.Close()
		return nil, err
	}
	return f, nil
}

func (f *family) close() {
	if f != nil {
		_, _ = f.pagemap.Close(), f.mem.Close()
	}
}

// mapping gives the parts of a mapping of the process that its parent has mapped
// likewise. It is asked for one mapping after another, by address.
func (f *family) mapping(m *procfs.Map) (out []kind.Range) {
	if f == nil || !forkable(m) {
		return nil
	}
	for len(f.maps) > 0 && f.maps[0].End <= m.Start {
		f.maps = f.maps[1:]
	}
	for i := range f.maps {
		q := &f.maps[i]
		if q.Start >= m.End {
			break
		}
		r := cut(kind.Range{Start: m.Start, End: m.End}, kind.Range{Start: q.Start, End: q.End})
		if r.Len() > 0 && alike(m, q) {
			out = append(out, r)
		}
	}
	return out
}

// compare notes which pages of b, which stands at address at in the process, the
// parent has, too: of those that common says it of, and that lie within. Those of
// zeros are not in the image where skipZeros says so.
func (f *family) compare(at uint64, b []byte, common []bool, within []kind.Range, skipZeros bool) error {
	for _, r := range within {
		r = cut(r, kind.Range{Start: at, End: at + uint64(len(b))})
		if r.Len() == 0 {
			continue
		}
		i, j := (r.Start-at)/page, (r.End-at)/page
		if err := f.compareRange(r.Start, b[i*page:j*page], common[i:j], skipZeros); err != nil {
			return err
		}
	}
	return nil
}

func (f *family) compareRange(at uint64, b []byte, common []bool, skipZeros bool) error {
	if !slices.Contains(common, true) {
		return nil
	}
	theirs := f.common[:len(common)]
	if err := f.has(at, theirs); err != nil {
		return err
	}
	for i := 0; i < len(common); i++ {
		j := i
		for j < len(common) && common[j] && theirs[j] {
			j++
		}
		other := f.buf[:(j-i)*page]
		if err := readFile(f.mem, other, at+uint64(i*page)); err != nil {
			return err
		}
		for ; i < j; i++ {
			if p := b[i*page : (i+1)*page]; bytes.Equal(p, other[:page]) && !(skipZeros && isZero(p)) {
				f.note(at + uint64(i*page))
			}
			other = other[page:]
		}
	}
	return nil
}

// has tells of each page from an address on whether the parent has one of its own
// there, which is saved with it. It may have it alone by now: after a restore, for
// one. Neither guard pages, which cannot be read, are meant, nor the kernel's page
// of zeros, which is mapped where memory was only read.
func (f *family) has(at uint64, out []bool) error {
	clear(out)
	for next, end := at, at+uint64(len(out)*page); next < end; {
		n, to, err := kernel.OwnPages(f.pagemap, next, end, f.regions)
		if err != nil {
			return err
		}
		for _, r := range f.regions[:n] {
			for a := r.Start; a < r.End && r.Categories&kernel.PageGuard == 0; a += page {
				out[(a-at)/page] = true
			}
		}
		next = to
	}
	return nil
}

func (f *family) note(at uint64) {
	if n := len(f.found); n > 0 && f.found[n-1].End == at {
		f.found[n-1].End += page
		return
	}
	f.found = append(f.found, &image.Range{Start: at, End: at + page})
}

// forkable: fork(2) gives the child the pages of such a mapping that differ from
// what is behind it.
func forkable(m *procfs.Map) bool {
	return !m.Shared && !m.IsSpecial() && !m.Has("dp") && !isHuge(m) && !isAIO(m) && !isSocket(m)
}

// alike: both are what fork(2) makes of one.
func alike(a, b *procfs.Map) bool {
	same := func(x, y *procfs.Map) bool {
		return x.File() == y.File() && (!x.File() || x.Dev == y.Dev && x.Ino == y.Ino && x.Offset-x.Start == y.Offset-y.Start)
	}
	flags, _ := shape(a, false)
	others, _ := shape(b, false)
	return forkable(a) && forkable(b) && same(a, b) && flags&lasting == others&lasting
}
