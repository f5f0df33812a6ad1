package image

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"slices"
	"strconv"
	"sync"

	"ckpt/failure"
)

// Pages that are the same in several address spaces are written once, and so that
// CRIU finds them, too: by its way to a parent image. Such a page is PE_PARENT,
// and the directory's link "parent" leads to a subdirectory, a level, where a
// pagemap of the same process says where it is. That one's pages file is the other
// process's. CRIU finds a page in a pages file by counting the pages of the entries
// in front of it; so what the file has in between, and this process has not, stands
// at address 0, where CRIU passes it over when it looks for one above.

// maxLevels is how many other pages files one process can have pages in.
const maxLevels = 8

// levelName is the name of a file of a level; 0 is the image's directory itself.
func levelName(level int, name string) string {
	if level == 0 {
		return name
	}
	return levelDir(level) + "/" + name
}

func levelDir(level int) string { return "same-" + strconv.Itoa(level) }

// ref is what a pages file has in common with another.
type ref struct {
	of    *PagesWriter
	found []span // where pages of of are
	spans []span // the same, and at address 0 those of of that are passed over
	pages uint64 // in spans: the next page of of that can be added
}

// guess is where the next page of a process would be, if it goes on as before.
type guess struct {
	of     *PagesWriter
	vaddr  uint64 // of the page that was found there
	index  uint64 // in of
	from   uint64 // address of the first page in buf
	buf    []byte
	missed int // pages since one was found
}

// mostMissed is how many pages in a row may not be where they were guessed to be.
const mostMissed = 4 * pieceSize / PageSize

// foresee reads what n pages from vaddr on would be.
func (p *PagesWriter) foresee(vaddr uint64, n int) error {
	g := &p.guess
	if g.missed > mostMissed {
		g.of = nil
	}
	if g.of == nil {
		return nil
	}
	index := g.index + (vaddr-g.vaddr)/PageSize
	if index >= g.of.pages {
		g.buf = g.buf[:0]
		return nil
	}
	size := int(min(uint64(n), g.of.pages-index)) * PageSize
	g.buf, g.from = slices.Grow(g.buf[:0], size)[:size], vaddr
	return g.of.readBack(index, g.buf)
}

// readBack reads pages that were written, from the one of a number on.
func (p *PagesWriter) readBack(index uint64, b []byte) error {
	if _, err := p.file.file.ReadAt(b, int64(index*PageSize)); err != nil {
		return failure.OnDisk(fmt.Errorf("read %s back: %w", pagesName(p.num), failure.WithoutPath(err)), p.w.to.where())
	}
	return nil
}

// findSame notes where the image has a page already. false: nowhere, or where the
// order of pages does not let it be found.
func (p *PagesWriter) findSame(vaddr uint64, page []byte, k *key) (bool, error) {
	g := &p.guess
	if g.of != nil {
		if at := vaddr - g.from; at < uint64(len(g.buf)) && bytes.Equal(g.buf[at:at+PageSize], page) {
			if index := g.index + (vaddr-g.vaddr)/PageSize; p.refer(g.of, index, vaddr) {
				g.missed = 0
				return true, nil
			}
		}
		g.missed++
	}
	of, index, err := p.w.same.find(page, k, p)
	if of == nil || err != nil || !p.refer(of, index, vaddr) {
		return false, err
	}
	if !p.w.same.strong && (g.of == nil || g.missed > 0) {
		p.guess = guess{of: of, vaddr: vaddr, index: index, buf: g.buf[:0]}
	}
	return true, nil
}

// refer notes that the page at vaddr is that of a number in of's pages file. false:
// there is no level left for one that comes so late, or no room at address 0.
func (p *PagesWriter) refer(of *PagesWriter, index, vaddr uint64) bool {
	r := p.refFor(of, index)
	if r == nil && len(p.refs) == maxLevels {
		return false
	}
	between := index
	if r != nil {
		between = index - r.pages
	}
	first := vaddr
	if len(p.spans) > 0 {
		first = p.spans[0].vaddr
	}
	if room := first / PageSize; room == 0 || between > mostBetween*room {
		return false
	}
	if r == nil {
		r = &ref{of: of}
		p.refs = append(p.refs, r)
	}
	if between == 0 {
		r.spans = addPage(r.spans, vaddr, PEPresent)
	} else {
		for ; between > 0; between -= min(between, first/PageSize) {
			r.spans = append(r.spans, span{0, min(between, first/PageSize), PEPresent})
		}
		r.spans = append(r.spans, span{vaddr, 1, PEPresent})
	}
	r.found = addPage(r.found, vaddr, PEPresent)
	r.pages = index + 1
	return true
}

// mostBetween bounds how many entries there are at address 0 in front of one.
const mostBetween = 64

// refFor is the ref to which a page can be added that leaves out least; nil: none.
func (p *PagesWriter) refFor(of *PagesWriter, index uint64) (best *ref) {
	for _, r := range p.refs {
		if r.of == of && r.pages <= index && (best == nil || r.pages > best.pages) {
			best = r
		}
	}
	return best
}

// atLevel is the pagemap of p at a level, and the number of its pages file. nil:
// nothing is looked up there.
func (p *PagesWriter) atLevel(level int) ([]span, uint32) {
	var spans []span
	num := p.num
	for i, r := range p.refs[min(level-1, len(p.refs)):] {
		if i == 0 {
			spans, num = r.spans, r.of.num
			continue
		}
		spans = mergeDeeper(spans, r.found)
	}
	if p.past != nil {
		spans = mergeDeeper(spans, p.past.found)
	}
	return spans, num
}

// mergeDeeper puts what is found deeper among spans, in order of address; each at
// address 0 stays in front of the one behind it.
func mergeDeeper(spans, found []span) (out []span) {
	for len(spans) > 0 {
		n := 0 // those at address 0, and the one behind them
		for spans[n].vaddr == 0 {
			n++
		}
		for len(found) > 0 && found[0].vaddr < spans[n].vaddr {
			out = append(out, span{found[0].vaddr, found[0].pages, PEParent})
			found = found[1:]
		}
		out = append(out, spans[:n+1]...)
		spans = spans[n+1:]
	}
	for _, f := range found {
		out = append(out, span{f.vaddr, f.pages, PEParent})
	}
	return out
}

// same finds pages by their contents.
type same struct {
	mu    sync.Mutex
	seed  maphash.Seed
	slots []slot // a power of two of them
	used  int
	begun bool   // there is more than one pages file
	every uint64 // only pages are noted whose hash has no bit of this
	// strong: what was written cannot be read back to be compared, so that two
	// pages are the same if 128 bits of their SHA-256 are.
	strong bool
}

// key is what a page is found by. It is made when it is first needed.
type key struct {
	made  bool
	hash  uint64
	check uint64 // more of the hash; 0 where that is not strong
}

// slot is where a page stands.
type slot struct {
	key
	of    *PagesWriter // nil: free
	index uint64
}

// mostSlots bounds the memory of same: 16 MB. Where there are more pages, only some
// of them are noted, and the others found because they stand behind those.
const mostSlots = 1 << 19

func newSame(strong bool) *same {
	return &same{seed: maphash.MakeSeed(), slots: make([]slot, 1<<10), strong: strong, begun: strong}
}

// begin notes what stands in the first pages file: alone, it has nothing in common
// with others.
func (s *same) begin(first *PagesWriter) error {
	if s.begun {
		return nil
	}
	s.begun = true
	buf := make([]byte, pieceSize)
	for index := uint64(0); index < first.pages; {
		piece := buf[:min(uint64(len(buf)), (first.pages-index)*PageSize)]
		if err := first.readBack(index, piece); err != nil {
			return err
		}
		for ; len(piece) > 0; piece = piece[PageSize:] {
			s.note(piece[:PageSize], new(key), first, index)
			index++
		}
	}
	return nil
}

// make fills in the key of a page, unless that is done.
func (s *same) make(k *key, page []byte) {
	switch {
	case k.made:
	case s.strong:
		sum := sha256.Sum256(page)
		*k = key{true, binary.LittleEndian.Uint64(sum[:]), binary.LittleEndian.Uint64(sum[8:])}
	default:
		*k = key{true, maphash.Bytes(s.seed, page), 0}
	}
}

// note says where a page is going to stand.
func (s *same) note(page []byte, k *key, of *PagesWriter, index uint64) {
	if !s.begun {
		return
	}
	s.make(k, page)
	s.mu.Lock()
	defer s.mu.Unlock()
	if k.hash&s.every != 0 {
		return
	}
	if 4*s.used >= 3*len(s.slots) {
		s.grow()
	}
	if at := s.at(k.hash); at.of == nil {
		*at = slot{*k, of, index}
		s.used++
	}
}

// at is the slot of a hash, or the free one for it.
func (s *same) at(h uint64) *slot {
	mask := uint64(len(s.slots) - 1)
	for i := h >> 32 & mask; ; i = (i + 1) & mask {
		if at := &s.slots[i]; at.of == nil || at.hash == h {
			return at
		}
	}
}

// grow makes room, by leaving out half of the pages if there may be no more slots.
func (s *same) grow() {
	old := s.slots
	if len(old) < mostSlots {
		s.slots = make([]slot, 2*len(old))
	} else {
		s.slots, s.every = make([]slot, len(old)), s.every<<1|1
	}
	s.used = 0
	for _, o := range old {
		if o.of != nil && o.hash&s.every == 0 {
			*s.at(o.hash) = o
			s.used++
		}
	}
}

// find looks for a page in the files of others than p. nil: it is in none.
func (s *same) find(page []byte, k *key, p *PagesWriter) (*PagesWriter, uint64, error) {
	if !s.begun {
		return nil, 0, nil
	}
	s.make(k, page)
	s.mu.Lock()
	at := *s.at(k.hash)
	s.mu.Unlock()
	if at.of == nil || at.of == p {
		return nil, 0, nil
	}
	if s.strong {
		if at.check != k.check {
			return nil, 0, nil
		}
		return at.of, at.index, nil
	}
	var there [PageSize]byte
	if err := at.of.readBack(at.index, there[:]); err != nil {
		return nil, 0, err
	}
	if !bytes.Equal(there[:], page) {
		return nil, 0, nil
	}
	return at.of, at.index, nil
}
