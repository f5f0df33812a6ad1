package image

import (
	"cmp"
	"io"
	"slices"
)

// Contents is what an image has of an address space, or of a piece of shared
// memory. What it reads was compared with the image's checksums. It is for one
// goroutine, and holds a few chunks of 4 MiB in memory.
type Contents struct {
	*Pages
	open []opened // the files last read, the latest first
}

// opened is a file whose chunks are compared with their sums as they are read.
type opened struct {
	file *PagesFile
	r    pieces
}

// mostOpen bounds the chunks that are held.
const mostOpen = 4

// Contents opens pagemap-ID.img (id: a vpid, or "shmem-N") for reading. Without
// a pagemap it has no runs. The caller closes it.
func (r *Reader) Contents(id string) (*Contents, error) {
	p, err := PageRuns(r, id)
	if err != nil {
		return nil, err
	}
	return &Contents{Pages: p}, nil
}

// ReadAt reads memory at an address, which is zero where there is no run.
func (c *Contents) ReadAt(b []byte, addr int64) (int, error) {
	at := uint64(addr)
	for done := 0; done < len(b); {
		part, run := c.upTo(at+uint64(done), uint64(len(b)-done))
		to := b[done : done+int(part)]
		if run == nil {
			clear(to)
			done += len(to)
			continue
		}
		r, err := c.checked(run.File)
		if err != nil {
			return done, err
		}
		from, err := r.r.at(run.Offset + int64(at+uint64(done)-run.Vaddr))
		if err != nil {
			return done, err
		}
		done += copy(to, from)
	}
	return len(b), nil
}

// checked is what reads a file.
func (c *Contents) checked(f *PagesFile) (o opened, err error) {
	if i := slices.IndexFunc(c.open, func(o opened) bool { return o.file == f }); i >= 0 {
		o = c.open[i]
		c.open = slices.Delete(c.open, i, i+1)
	} else if o, err = f.checked(); err != nil {
		return o, err
	}
	c.open = slices.Insert(c.open, 0, o)[:min(len(c.open)+1, mostOpen)]
	return o, nil
}

func (f *PagesFile) checked() (opened, error) {
	r := &checked{name: f.name, r: f.r, size: f.size, sums: f.sums, from: -1}
	if f.frames == nil {
		return opened{f, r}, nil
	}
	packed, err := openFrames(f.name, r, f.size)
	return opened{f, packed}, err
}

// upTo tells how many of n bytes at an address are of one run, or of none.
func (c *Contents) upTo(addr, n uint64) (uint64, *Run) {
	i := c.First(addr)
	switch {
	case i == len(c.Runs):
		return n, nil
	case c.Runs[i].Vaddr > addr:
		return min(n, c.Runs[i].Vaddr-addr), nil
	}
	return min(n, c.Runs[i].End()-addr), &c.Runs[i]
}

// First is the index of the first run that ends behind an address.
func (c *Contents) First(addr uint64) int {
	i, _ := slices.BinarySearchFunc(c.Runs, addr, func(r Run, at uint64) int {
		return cmp.Or(cmp.Compare(r.End(), at+1), 1)
	})
	return i
}

var _ io.ReaderAt = (*Contents)(nil)

// Same tells whether o has the same n bytes at an address, as far as that can be
// told by the checksums. false says nothing.
func (c *Contents) Same(o *Contents, addr, n uint64) bool {
	f, at := c.within(addr, n)
	g, other := o.within(addr, n)
	if f == nil || g == nil || f.sums == nil || g.sums == nil || at != other {
		return false
	}
	for i := at / chunk; i <= (at+int64(n)-1)/chunk; i++ {
		whole := min(f.size, g.size) >= (i+1)*chunk || f.size == g.size
		if !whole || !f.sums.same(g.sums, int(i)) {
			return false
		}
	}
	return true
}

// within is where n bytes stand; nil: not in one run.
func (c *Contents) within(addr, n uint64) (*PagesFile, int64) {
	part, run := c.upTo(addr, n)
	if run == nil || part < n {
		return nil, 0
	}
	return run.File, run.Offset + int64(addr-run.Vaddr)
}
