package image

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/pagemap"
	"google.golang.org/protobuf/proto"
)

// pieceSize is how much is compared at a time with what was saved before, in bytes.
const pieceSize = 1 << 20

// PagesWriter is a pagemap with its pages file: the contents of one address
// space or of one piece of shared memory. What the image, or its parent, holds
// already is not written again.
type PagesWriter struct {
	w     *Writer
	id    string // of the pagemap
	num   uint32 // of the pages file
	file  *outFile
	out   io.Writer // to file; compresses, if that is wanted
	ended bool
	pages uint64 // in file
	spans []span
	refs  []*ref // what is in other pages files of this image
	past  *past  // what is in the parent image; nil: there is none
	guess guess
	alone [2]uint64 // see Alone
}

// Alone has the pages from start to end written for this process even if another
// has the same. What reads memory in go-criu, and so checkpointctl, knows no parent
// images: it counts their pages as those of this one, and goes wrong behind. Another
// call is for another range.
func (p *PagesWriter) Alone(start, end uint64) {
	p.alone = [2]uint64{start, end}
}

// Pages starts pagemap-ID.img and its pages file: id is a vpid, or "shmem-N".
func (w *Writer) Pages(id string) (*PagesWriter, error) {
	name := Pagemap.Name(id)
	if err := checkName(name); err != nil {
		return nil, err
	}
	past, err := w.pastOf(id)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pages[id] != nil {
		return nil, fmt.Errorf("%s is already being written", name)
	}
	for _, first := range w.pages {
		if err := w.same.begin(first); err != nil {
			return nil, err
		}
	}
	num := uint32(len(w.pages) + 1) // CRIU numbers them from 1
	file := pagesName(num)
	if w.compression != nil {
		file += zst
	}
	f, err := w.file(file, false)
	if err != nil {
		return nil, err
	}
	p := &PagesWriter{w: w, id: id, num: num, file: f, out: f, past: past}
	if w.compression != nil {
		p.out = &frameWriter{c: w.compression, out: f}
	}
	w.pages[id] = p
	return p, nil
}

// Close ends the writing: what it needs memory for is written, or given up. To
// close it twice does no harm.
func (p *PagesWriter) Close() error {
	if p.ended {
		return nil
	}
	p.ended = true
	if p.past != nil {
		p.past.pages.Close()
		p.past = &past{found: p.past.found} // what was decoded last is in memory, too
	}
	p.guess = guess{}
	if c, ok := p.out.(io.Closer); ok && p.out != p.file {
		if err := c.Close(); err != nil {
			return err
		}
	}
	if p.w.same.strong { // else it is read back
		return p.file.Close()
	}
	return nil
}

// Write adds the pages b, which stand at address vaddr. Pages come in order of
// their addresses.
func (p *PagesWriter) Write(vaddr uint64, b []byte) error {
	s := span{vaddr, uint64(len(b)) / PageSize, PEPresent}
	err := s.check()
	switch n := len(p.spans); {
	case err != nil:
	case p.ended:
		err = errors.New("it is closed")
	case len(b)%PageSize != 0:
		err = fmt.Errorf("%d bytes are no whole pages", len(b))
	case n > 0 && vaddr < p.spans[n-1].end():
		err = fmt.Errorf("address %#x comes after %#x", vaddr, p.spans[n-1].end())
	}
	if err != nil {
		return fmt.Errorf("%s: %w", Pagemap.Name(p.id), err)
	}
	for len(b) > 0 {
		piece := b[:min(len(b), pieceSize)]
		if err := p.w.ctx.Err(); err != nil { // nothing of it may have to be written
			return err
		}
		if err := p.writePiece(vaddr, piece); err != nil {
			return err
		}
		p.w.counting.Load().Add(uint64(len(piece)))
		vaddr, b = vaddr+uint64(len(piece)), b[len(piece):]
	}
	return nil
}

// writePiece writes what is not in the image yet.
func (p *PagesWriter) writePiece(vaddr uint64, b []byte) error {
	same, err := p.past.compare(vaddr, b)
	if err != nil {
		return err
	}
	if err := p.foresee(vaddr, len(b)/PageSize); err != nil {
		return err
	}
	fresh := 0 // bytes in front of i that are to be written
	flush := func(end int) error {
		if fresh == 0 {
			return nil
		}
		_, err := p.out.Write(b[end-fresh : end])
		fresh = 0
		return err
	}
	for i := 0; i < len(b); i += PageSize {
		at, page := vaddr+uint64(i), b[i:i+PageSize]
		var k key
		known := len(same) > 0 && same[i/PageSize]
		if known {
			p.past.found = addPage(p.past.found, at, PEParent)
		} else if at < p.alone[0] || at >= p.alone[1] {
			if known, err = p.findSame(at, page, &k); err != nil {
				return err
			}
		}
		if known {
			if err := flush(i); err != nil {
				return err
			}
			p.add(at, PEParent)
			continue
		}
		p.w.same.note(page, &k, p, p.pages)
		p.add(at, PEPresent)
		p.pages++
		fresh += PageSize
	}
	return flush(len(b))
}

// Amounts is where contents of pages stand, in bytes, and how large the image is.
type Amounts struct {
	Written   uint64 `json:"written"`   // in files of the image; before compression
	Same      uint64 `json:"same"`      // there, too, but written for another process
	Unchanged uint64 `json:"unchanged"` // in the parent image
	Stored    uint64 `json:"stored"`    // all files of the image, after Commit
}

// Amounts adds up all pages so far.
func (w *Writer) Amounts() (a Amounts) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a.Stored = w.stored
	for _, p := range w.pages {
		a.Written += p.pages * PageSize
		for _, r := range p.refs {
			a.Same += bytesIn(r.found)
		}
		if p.past != nil {
			a.Unchanged += bytesIn(p.past.found)
		}
	}
	return a
}

func bytesIn(spans []span) (n uint64) {
	for _, s := range spans {
		n += s.pages * PageSize
	}
	return n
}

func (p *PagesWriter) add(vaddr uint64, flags uint32) {
	p.spans = addPage(p.spans, vaddr, flags)
}

// addPage puts one page behind spans.
func addPage(spans []span, vaddr uint64, flags uint32) []span {
	if n := len(spans); n > 0 && spans[n-1].flags == flags && spans[n-1].end() == vaddr {
		spans[n-1].pages++
		return spans
	}
	return append(spans, span{vaddr, 1, flags})
}

// addPagemap writes a pagemap, whose pages are in the pages file of that number.
func (w *Writer) addPagemap(name string, num uint32, spans []span) error {
	if err := w.add(Pagemap, name, &pagemap.PagemapHead{PagesId: proto.Uint32(num)}); err != nil {
		return err
	}
	for _, s := range spans {
		if err := w.add(Pagemap, name, s.entry()); err != nil {
			return err
		}
	}
	return nil
}

// past is what a parent image holds of one pagemap.
type past struct {
	pages *Pages
	runs  []Run // that have not been passed yet
	buf   []byte
	same  []bool
	found []span // where the process still has them
}

// pastOf gives nil where there is no parent, or where it has no such pagemap.
func (w *Writer) pastOf(id string) (*past, error) {
	if w.parent == nil || !w.parent.Has(Pagemap, id) {
		return nil, nil
	}
	pages, err := PageRuns(w.parent, id)
	if err != nil {
		return nil, inParent(w.parent, err)
	}
	return &past{pages: pages, runs: pages.Runs, buf: make([]byte, pieceSize), same: make([]bool, pieceSize/PageSize)}, nil
}

// compare tells of each page in b, which stands at address vaddr, whether the
// parent has the same.
func (p *past) compare(vaddr uint64, b []byte) ([]bool, error) {
	if p == nil {
		return nil, nil
	}
	same, end := p.same[:len(b)/PageSize], vaddr+uint64(len(b))
	clear(same)
	for len(p.runs) > 0 && p.runs[0].End() <= vaddr {
		p.runs = p.runs[1:]
	}
	for _, r := range p.runs {
		if r.Vaddr >= end {
			break
		}
		from, to := max(r.Vaddr, vaddr), min(r.End(), end)
		old, now := p.buf[:to-from], b[from-vaddr:to-vaddr]
		if err := r.Read(from, old); err != nil {
			return nil, err
		}
		for i := 0; i < len(old); i += PageSize {
			same[(from-vaddr)/PageSize+uint64(i/PageSize)] = bytes.Equal(old[i:i+PageSize], now[i:i+PageSize])
		}
	}
	return same, nil
}
