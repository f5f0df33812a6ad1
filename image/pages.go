package image

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/pagemap"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
)

// fieldPages is nr_pages (u64) of pagemap_entry in newer versions of CRIU,
// which call field 2 (u32) compat_nr_pages; go-criu v7 does not know it.
const fieldPages = 5

// maxAddr is above every address of a program: x86 with page tables of five
// levels has 57 bits, half of them the kernel's.
const maxAddr = 1 << 56

// PagesWriter is a pagemap with its pages file: the contents of one address
// space or of one piece of shared memory.
type PagesWriter struct {
	// File is where the contents go, at the offsets that Run returns. It may
	// be passed on and written to by others, in any order.
	File *os.File
	// ID is the number in its name.
	ID uint32

	id   string // of the pagemap
	runs []Run
	size int64 // bytes handed out in File
	err  error // first mistake of a caller
}

// Pages starts pagemap-ID.img and its pages file: id is a vpid, or "shmem-N".
func (w *Writer) Pages(id string) (*PagesWriter, error) {
	name := Pagemap.Name(id)
	if err := checkName(name); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pages[id] != nil {
		return nil, fmt.Errorf("%s is already being written", name)
	}
	w.next++ // CRIU numbers them from 1
	f, err := w.file(pagesName(w.next))
	if err != nil {
		return nil, err
	}
	p := &PagesWriter{File: f, ID: w.next, id: id}
	w.pages[id] = p
	return p, nil
}

// Run notes that pages pages from vaddr on are part of the image and returns
// the offset in File where their contents belong, in bytes. Runs come in
// order of their addresses. Flags are those of PEPresent; a run without
// PEPresent has no contents here and the offset is -1. Mistakes are reported
// by Commit.
func (p *PagesWriter) Run(vaddr, pages uint64, flags uint32) (offset int64) {
	if err := p.check(vaddr, pages, flags); err != nil && p.err == nil {
		p.err = fmt.Errorf("%s: %w", Pagemap.Name(p.id), err)
	}
	offset = -1
	if flags&PEPresent != 0 {
		offset = p.size
		p.size += int64(pages * PageSize)
	}
	if n := len(p.runs); n > 0 {
		if last := &p.runs[n-1]; last.Flags == flags && last.End() == vaddr {
			last.Pages += pages
			return offset
		}
	}
	p.runs = append(p.runs, Run{Vaddr: vaddr, Pages: pages, Offset: offset, InParent: flags&PEParent != 0, Flags: flags})
	return offset
}

func (p *PagesWriter) check(vaddr, pages uint64, flags uint32) error {
	switch {
	case vaddr%PageSize != 0:
		return fmt.Errorf("address %#x does not begin a page", vaddr)
	case pages == 0 || vaddr >= maxAddr || pages > (maxAddr-vaddr)/PageSize:
		return fmt.Errorf("%d pages from %#x", pages, vaddr)
	case flags&PEPresent != 0 == (flags&PEParent != 0):
		return fmt.Errorf("flags %#x: the pages are either here or in the parent", flags)
	case len(p.runs) > 0 && vaddr < p.runs[len(p.runs)-1].End():
		return fmt.Errorf("address %#x comes after %#x", vaddr, p.runs[len(p.runs)-1].End())
	}
	return nil
}

// WriteAt writes contents at an offset that Run has returned.
func (p *PagesWriter) WriteAt(b []byte, off int64) (int, error) {
	n, err := p.File.WriteAt(b, off)
	if err != nil {
		err = writeError(filepath.Base(p.File.Name()), err)
	}
	return n, err
}

// Size is the number of bytes handed out in File so far.
func (p *PagesWriter) Size() int64 { return p.size }

// addPagemap writes the entries of p. Preconditions: w.mu is not held.
func (w *Writer) addPagemap(p *PagesWriter) error {
	if p.err != nil {
		return p.err
	}
	if err := w.Add(Pagemap, p.id, &pagemap.PagemapHead{PagesId: proto.Uint32(p.ID)}); err != nil {
		return err
	}
	for _, r := range p.runs {
		if err := w.Add(Pagemap, p.id, r.entry()); err != nil {
			return err
		}
	}
	return nil
}

// Run is consecutive pages of an address space.
type Run struct {
	Vaddr    uint64
	Pages    uint64
	Offset   int64 // in the pages file, in bytes; -1: not there
	InParent bool  // the contents stand in the parent image
	Flags    uint32
}

// End is the address behind the run.
func (r Run) End() uint64 { return r.Vaddr + r.Pages*PageSize }

func (r Run) entry() *pagemap.PagemapEntry {
	e := &pagemap.PagemapEntry{Vaddr: proto.Uint64(r.Vaddr), NrPages: proto.Uint32(0), Flags: proto.Uint32(r.Flags)}
	if r.Pages == uint64(uint32(r.Pages)) {
		e.NrPages = proto.Uint32(uint32(r.Pages))
	}
	if r.InParent {
		e.InParent = proto.Bool(true) // images from before the flags
	}
	b := protowire.AppendTag(nil, fieldPages, protowire.VarintType)
	e.ProtoReflect().SetUnknown(protowire.AppendVarint(b, r.Pages))
	return e
}

// pagesOf is the number of pages of an entry, whichever field holds it.
func pagesOf(e *pagemap.PagemapEntry) (uint64, error) {
	n := uint64(e.GetNrPages())
	for b := []byte(e.ProtoReflect().GetUnknown()); len(b) > 0; {
		num, typ, l := protowire.ConsumeField(b)
		if l < 0 {
			return 0, failure.Damagedf("its fields do not decode")
		}
		if num == fieldPages && typ == protowire.VarintType {
			_, _, t := protowire.ConsumeTag(b)
			v, _ := protowire.ConsumeVarint(b[t:])
			if n != 0 && n != v {
				return 0, failure.Damagedf("it says %d pages, and %d", n, v)
			}
			n = v
		}
		b = b[l:]
	}
	return n, nil
}

// PageRuns reads pagemap-ID.img: its runs, checked (in order, whole pages,
// within the pages file), and the pages file, which the caller closes. No
// pagemap: no runs and a nil file.
func PageRuns(r *Reader, id string) ([]Run, *os.File, error) {
	d, err := r.Decode(Pagemap, id)
	if err != nil || d == nil {
		return nil, nil, err
	}
	defer d.Close()
	var head pagemap.PagemapHead
	if err := d.Next(&head); err != nil {
		return nil, nil, d.atEnd(err, "it has no first entry")
	}
	runs, need, err := readRuns(d)
	if err != nil {
		return nil, nil, err
	}
	name := pagesName(head.GetPagesId())
	f, size, err := r.openFile(name)
	switch {
	case err != nil:
		return nil, nil, err
	case f == nil && need == 0:
		return runs, nil, nil
	case f == nil:
		return nil, nil, failure.Damagedf("%s is missing", name)
	case size < need:
		_ = f.Close()
		return nil, nil, failure.Damagedf("%s is cut off: %s of %s are left", name, humanBytes(size), humanBytes(need))
	}
	return runs, f, nil
}

func readRuns(d *Decoder) (runs []Run, need int64, err error) {
	var last uint64
	for {
		var e pagemap.PagemapEntry
		at := d.Offset()
		if err := d.Next(&e); err != nil {
			return runs, need, d.unlessEnd(err)
		}
		n, err := pagesOf(&e)
		if err != nil {
			return nil, 0, d.damaged(at, "%w", err)
		}
		run := Run{Vaddr: e.GetVaddr(), Pages: n, Offset: -1, Flags: e.GetFlags()}
		if e.Flags == nil { // before CRIU 3: in_parent alone
			run.Flags = PEPresent
			if e.GetInParent() {
				run.Flags = PEParent
			}
		}
		run.InParent = run.Flags&PEParent != 0
		switch {
		case run.Vaddr%PageSize != 0:
			return nil, 0, d.damaged(at, "address %#x does not begin a page", run.Vaddr)
		case run.Vaddr < last:
			return nil, 0, d.damaged(at, "address %#x stands behind %#x", run.Vaddr, last)
		case n == 0 || run.Vaddr >= maxAddr || n > (maxAddr-run.Vaddr)/PageSize:
			return nil, 0, d.damaged(at, "%s pages from %#x", strconv.FormatUint(n, 10), run.Vaddr)
		}
		last = run.End()
		if run.Flags&PEPresent != 0 && !run.InParent {
			run.Offset = need
			need += int64(n * PageSize)
			if need > 1<<62 {
				return nil, 0, d.damaged(at, "more pages than a file can hold")
			}
		}
		runs = append(runs, run)
	}
}
