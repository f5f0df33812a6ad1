package image

import (
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"ckpt/failure"
)

// Pages is what an image holds of an address space, or of a piece of shared
// memory.
type Pages struct {
	Runs  []Run // in order of their addresses; they do not overlap
	files map[*Reader]map[uint32]*PagesFile
}

// Run is consecutive pages whose contents stand one behind the other in a file.
type Run struct {
	Vaddr, Pages uint64
	File         *PagesFile
	Offset       int64 // in File, in bytes
	From         Origin
}

// Origin tells whose file contents stand in.
type Origin int

// Contents are in the pages file of their own process; in that of another, which
// has the same; in a parent image.
const (
	Own Origin = iota
	Another
	Parent
)

// End is the address behind the run.
func (r Run) End() uint64 { return r.Vaddr + r.Pages*PageSize }

// Part is [start, end) of r. Preconditions: whole pages within it.
func (r Run) Part(start, end uint64) Run {
	r.Offset += int64(start - r.Vaddr)
	r.Vaddr, r.Pages = start, (end-start)/PageSize
	return r
}

// Read reads the contents of r, len(b) bytes from address at on.
func (r Run) Read(at uint64, b []byte) error {
	if _, err := r.File.ReadAt(b, r.Offset+int64(at-r.Vaddr)); err != nil {
		return fmt.Errorf("read the pages at %#x: %w", at, err)
	}
	return nil
}

// PagesFile is a file with contents of pages.
type PagesFile struct {
	plainFile
	frames *frames // nil: it is not compressed
}

// Raw is the file in which contents stand as they are, and where in it they begin,
// in bytes; nil: they have to be decoded.
func (f *PagesFile) Raw() (file *os.File, at int64) {
	if f.frames != nil || f.r != io.ReaderAt(f.file) {
		return nil, 0
	}
	return f.file.file, f.file.at
}

// Unread says of the file that its disk fails, and what to do; nil: it is another error.
func (f *PagesFile) Unread(errno unix.Errno) error {
	if !diskFails(errno) {
		return nil
	}
	return unread(fmt.Errorf("read %s: %w", f.name, errno))
}

// holds is how much there is to be read, in bytes.
func (f *PagesFile) holds() int64 {
	if f.frames != nil {
		return f.frames.size
	}
	return f.size
}

// ReadAt reads decoded contents (io.ReaderAt). A file that ends too early is
// damaged.
func (f *PagesFile) ReadAt(b []byte, off int64) (int, error) {
	r := f.r
	if f.frames != nil {
		r = f.frames
	}
	n, err := r.ReadAt(b, off)
	f.count(n)
	if n == len(b) {
		return n, nil // at the end, io.EOF may come along
	}
	if err == io.EOF {
		err = failure.Damagedf("%s is cut off", f.name)
	}
	return n, err
}

// Close closes all files.
func (p *Pages) Close() {
	for _, files := range p.files {
		for _, f := range files {
			_ = f.file.Close()
		}
	}
}

// PageRuns reads pagemap-ID.img and, for pages that stand elsewhere, those of the
// same name in the levels of the image and in its parent images. Each is checked
// (in order, whole pages, within the pages file). No pagemap: no runs. The caller
// closes the result.
func PageRuns(r *Reader, id string) (*Pages, error) {
	p := &Pages{files: map[*Reader]map[uint32]*PagesFile{}}
	runs, err := p.resolve(r, id)
	if err != nil {
		p.Close()
		return nil, err
	}
	p.Runs = runs
	return p, nil
}

// resolve reads the pagemaps of one image, the deepest first.
func (p *Pages) resolve(r *Reader, id string) (runs []Run, err error) {
	var maps []leveled
	deeper := true
	for level := 0; deeper && level <= r.levels(); level++ {
		name := levelName(level, Pagemap.Name(id))
		n, spans, need, ok, err := r.readPagemap(name)
		if err != nil {
			return nil, err
		}
		if !ok && level > 0 {
			return nil, failure.Damagedf("%s is missing", name)
		}
		m := leveled{name: name, spans: spans}
		if m.file, err = p.file(r, n, need); err != nil {
			return nil, err
		}
		maps = append(maps, m)
		deeper = slices.ContainsFunc(spans, func(s span) bool { return s.flags&PEParent != 0 })
	}
	if deeper {
		if r.parent == nil {
			return nil, failure.Damagedf("%s: pages are said to be in a parent image, and it has none", maps[len(maps)-1].name)
		}
		if runs, err = p.resolve(r.parent, id); err != nil {
			return nil, inParent(r.parent, err)
		}
		for i := range runs {
			runs[i].From = Parent
		}
	}
	for level, m := range slices.Backward(maps) {
		from := Own
		if level > 0 {
			from = Another
		}
		if runs, err = m.over(runs, from); err != nil {
			return nil, err
		}
	}
	return runs, nil
}

// leveled is a pagemap of one level.
type leveled struct {
	name  string
	spans []span
	file  *PagesFile
}

// over fills in from below, the runs of the next level, what m has not itself.
func (m leveled) over(below []Run, from Origin) (out []Run, err error) {
	offset := int64(0)
	for _, s := range m.spans {
		if s.flags&PEPresent != 0 && s.vaddr == 0 && from == Another {
			offset += int64(s.pages * PageSize)
			continue
		}
		if s.flags&PEPresent != 0 {
			out = append(out, Run{Vaddr: s.vaddr, Pages: s.pages, File: m.file, Offset: offset, From: from})
			offset += int64(s.pages * PageSize)
			continue
		}
		at := s.vaddr
		for len(below) > 0 && below[0].End() <= at {
			below = below[1:]
		}
		for i := 0; at < s.end(); i++ {
			if i == len(below) || below[i].Vaddr > at {
				return nil, failure.Damagedf("%s: the page at %#x is said to be in the parent, and is not", m.name, at)
			}
			end := min(below[i].End(), s.end())
			out = append(out, below[i].Part(at, end))
			at = end
		}
	}
	return out, nil
}

// file opens pages-N.img of r, which has to hold need bytes. All levels of an image
// have their contents in the files of the first.
func (p *Pages) file(r *Reader, n uint32, need int64) (*PagesFile, error) {
	if need == 0 {
		return nil, nil
	}
	f := p.files[r][n]
	if f == nil {
		var err error
		if f, err = r.openPages(n); err != nil {
			return nil, err
		}
		if p.files[r] == nil {
			p.files[r] = map[uint32]*PagesFile{}
		}
		p.files[r][n] = f
	}
	if has := f.holds(); has < need {
		return nil, failure.Damagedf("%s is cut off: %s of %s are left", f.name, humanBytes(has), humanBytes(need))
	}
	return f, nil
}

// openPages opens pages-N.img, or the compressed file that stands for it.
func (r *Reader) openPages(n uint32) (*PagesFile, error) {
	name := pagesName(n)
	p, err := r.openPlain(name)
	packed := err == nil && p == nil
	if packed {
		p, err = r.openPlain(name + zst)
	}
	switch {
	case err != nil:
		return nil, err
	case p == nil:
		return nil, failure.Damagedf("%s is missing", name)
	}
	if r.keys.Verify != nil {
		p.check() // whoever can change the image may do so after Verify has looked
	}
	f := &PagesFile{plainFile: *p}
	if packed {
		if f.frames, err = openFrames(p.name, p.r, p.size); err != nil {
			_ = p.file.Close()
			return nil, err
		}
	}
	return f, nil
}
