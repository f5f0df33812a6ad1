package image

import (
	"cmp"
	"io"
	"os"
	"path/filepath"
	"slices"

	"ckpt/failure"
)

// Contents is what an image has of an address space, or of a piece of shared
// memory. What it reads was compared with the image's checksums. It is for one
// goroutine, and holds a chunk of 4 MiB in memory.
type Contents struct {
	// Runs are in order and do not overlap.
	Runs []Run

	file  *os.File
	pages checked
}

// Contents opens pagemap-ID.img (id: a vpid, or "shmem-N") for reading. Without
// a pagemap it has no runs. The caller closes it.
func (r *Reader) Contents(id string) (*Contents, error) {
	runs, file, err := PageRuns(r, id)
	if err != nil {
		return nil, err
	}
	c := &Contents{Runs: runs, file: file}
	if file == nil {
		return c, nil
	}
	name := filepath.Base(file.Name())
	c.pages = checked{name: name, r: file, size: r.sizes[name], from: -1}
	if s := r.sums[name]; s != nil {
		c.pages.sums = s.Crc32C
	}
	return c, nil
}

// Close closes the pages file.
func (c *Contents) Close() {
	if c.file != nil {
		_ = c.file.Close()
	}
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
		if run.Offset < 0 {
			return done, failure.Damagedf("%s: the pages at %#x are not in the image", c.pages.name, run.Vaddr)
		}
		from, err := c.pages.at(run.Offset + int64(at+uint64(done)-run.Vaddr))
		if err != nil {
			return done, err
		}
		done += copy(to, from)
	}
	return len(b), nil
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
	if c.pages.sums == nil || o.pages.sums == nil {
		return false
	}
	inC, inO := c.within(addr, n), o.within(addr, n)
	if inC < 0 || inC != inO {
		return false
	}
	for i := inC / chunk; i <= (inC+int64(n)-1)/chunk; i++ {
		whole := min(c.pages.size, o.pages.size) >= (i+1)*chunk || c.pages.size == o.pages.size
		if !whole || i >= int64(min(len(c.pages.sums), len(o.pages.sums))) || c.pages.sums[i] != o.pages.sums[i] {
			return false
		}
	}
	return true
}

// within is where in the pages file n bytes stand; -1: not in one run of it.
func (c *Contents) within(addr, n uint64) int64 {
	part, run := c.upTo(addr, n)
	if run == nil || run.Offset < 0 || part < n {
		return -1
	}
	return run.Offset + int64(addr-run.Vaddr)
}
