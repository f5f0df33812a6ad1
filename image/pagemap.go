package image

import (
	"fmt"
	"strings"

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

// span is an entry of a pagemap: consecutive pages.
type span struct {
	vaddr, pages uint64
	flags        uint32
}

func (s span) end() uint64 { return s.vaddr + s.pages*PageSize }

// check refuses what is no range of pages that a program can have.
func (s span) check() error {
	switch {
	case s.vaddr%PageSize != 0:
		return fmt.Errorf("address %#x does not begin a page", s.vaddr)
	case s.pages == 0 || s.vaddr >= maxAddr || s.pages > (maxAddr-s.vaddr)/PageSize:
		return fmt.Errorf("%d pages from %#x", s.pages, s.vaddr)
	case s.flags&PEPresent != 0 == (s.flags&PEParent != 0):
		return fmt.Errorf("%d pages from %#x stand neither here nor in a parent (flags %#x)", s.pages, s.vaddr, s.flags)
	}
	return nil
}

func (s span) entry() *pagemap.PagemapEntry {
	e := &pagemap.PagemapEntry{Vaddr: proto.Uint64(s.vaddr), NrPages: proto.Uint32(0), Flags: proto.Uint32(s.flags)}
	if s.pages == uint64(uint32(s.pages)) {
		e.NrPages = proto.Uint32(uint32(s.pages))
	}
	if s.flags&PEParent != 0 {
		e.InParent = proto.Bool(true) // images from before the flags
	}
	b := protowire.AppendTag(nil, fieldPages, protowire.VarintType)
	e.ProtoReflect().SetUnknown(protowire.AppendVarint(b, s.pages))
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

// readPagemap reads the pagemap in the file name: the number of its pages file,
// its spans, in order, and how many bytes of pages that file must hold. ok is false
// where there is no such file.
func (r *Reader) readPagemap(name string) (id uint32, spans []span, need int64, ok bool, err error) {
	d, err := r.decode(Pagemap, name)
	if err != nil || d == nil {
		return 0, nil, 0, false, err
	}
	defer d.Close()
	var head pagemap.PagemapHead
	if err := d.Next(&head); err != nil {
		return 0, nil, 0, false, d.atEnd(err, "it has no first entry")
	}
	spans, need, err = readSpans(d, strings.Contains(name, "/"))
	return head.GetPagesId(), spans, need, true, err
}

// passedOver: some are at address 0 that are only counted (see same.go).
func readSpans(d *Decoder, passedOver bool) (spans []span, need int64, err error) {
	var last uint64
	for {
		var e pagemap.PagemapEntry
		at := d.Offset()
		if err := d.Next(&e); err != nil {
			return spans, need, d.unlessEnd(err)
		}
		n, err := pagesOf(&e)
		if err != nil {
			return nil, 0, d.damaged(at, "%w", err)
		}
		s := span{e.GetVaddr(), n, e.GetFlags()}
		if e.Flags == nil { // before CRIU 3: in_parent alone
			s.flags = PEPresent
			if e.GetInParent() {
				s.flags = PEParent
			}
		}
		if s.flags&PEParent != 0 {
			s.flags &^= PEPresent
		}
		if err := s.check(); err != nil {
			return nil, 0, d.damaged(at, "%w", err)
		}
		switch passed := passedOver && s.vaddr == 0 && s.flags&PEPresent != 0; {
		case passed:
		case s.vaddr < last:
			return nil, 0, d.damaged(at, "address %#x stands behind %#x", s.vaddr, last)
		default:
			last = s.end()
		}
		if s.flags&PEPresent != 0 {
			need += int64(n * PageSize)
			if need > 1<<62 {
				return nil, 0, d.damaged(at, "more pages than a file can hold")
			}
		}
		spans = append(spans, s)
	}
}
