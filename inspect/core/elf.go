package core

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"

	"ckpt/image"
)

// segment is what the file has of a mapping, or of a part of one.
type segment struct {
	start, end uint64 // addresses
	flags      elf.ProgFlag
	parts      []part // from start on
}

// part is bytes of memory: of a reader, or zeros.
type part struct {
	size uint64
	from io.ReaderAt // nil: zeros
	at   int64
}

// stored is how many bytes of a segment stand in the file.
func (s *segment) stored() (n uint64) {
	for _, p := range s.parts {
		n += p.size
	}
	return n
}

// manyHeaders is PN_XNUM: so many program headers or more are counted in sh_info
// of the first section header (elf(5)).
const manyHeaders = 0xffff

const (
	headerSize  = 64
	programSize = 56
	sectionSize = 64
)

// write lays the file out: header, program headers, notes, contents of the
// segments from a page on, and a section header if there are many segments. phase
// counts the contents.
func write(ctx context.Context, out Output, notes []byte, segments []segment, phase *image.Phase) error {
	count := len(segments) + 1
	at := uint64(headerSize + programSize*count)
	progs := []elf.Prog64{{Type: uint32(elf.PT_NOTE), Off: at, Filesz: uint64(len(notes)), Align: 4}}
	begin := roundUp(at + uint64(len(notes)))
	end := begin
	for _, s := range segments {
		progs = append(progs, elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(s.flags), Off: end, Vaddr: s.start,
			Filesz: s.stored(), Memsz: s.end - s.start, Align: image.PageSize})
		end += s.stored()
	}
	head := elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_CORE), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT), Phoff: headerSize,
		Ehsize: headerSize, Phentsize: programSize, Phnum: uint16(count),
	}
	var many *elf.Section64
	if count >= manyHeaders {
		many = &elf.Section64{Size: 1, Info: uint32(count)}
		head.Phnum, head.Shoff, head.Shentsize, head.Shnum = manyHeaders, end, sectionSize, 1
	}
	var b bytes.Buffer
	for _, v := range []any{head, progs} {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			return err
		}
	}
	b.Write(notes)
	b.Write(make([]byte, begin-uint64(b.Len())))
	if _, err := out.Write(b.Bytes()); err != nil {
		return err
	}
	c := copier{ctx: ctx, out: out, buf: make([]byte, 1<<20)}
	for _, s := range segments {
		for _, p := range s.parts {
			if err := c.copy(p, phase); err != nil {
				return err
			}
		}
	}
	if many == nil {
		return nil
	}
	return binary.Write(out, binary.LittleEndian, many)
}

func roundUp(n uint64) uint64 { return (n + image.PageSize - 1) &^ (image.PageSize - 1) }

// copier passes contents on through one buffer.
type copier struct {
	ctx context.Context
	out Output
	buf []byte
}

func (c *copier) copy(p part, phase *image.Phase) error {
	if p.from == nil {
		phase.Add(p.size)
		return c.out.Skip(p.size)
	}
	for done := uint64(0); done < p.size; {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		b := c.buf[:min(uint64(len(c.buf)), p.size-done)]
		switch n, err := p.from.ReadAt(b, p.at+int64(done)); {
		case n == len(b):
		case errors.Is(err, io.EOF):
			return errors.New("a mapped file has become shorter while it was read")
		default:
			return err
		}
		if _, err := c.out.Write(b); err != nil {
			return err
		}
		done += uint64(len(b))
		phase.Add(uint64(len(b)))
	}
	return nil
}
