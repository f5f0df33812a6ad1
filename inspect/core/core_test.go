package core

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/core-x86"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/vma"
	"google.golang.org/protobuf/proto"

	"ckpt/image"
	"ckpt/inspect"
)

// memory is an Output that counts holes.
type memory struct {
	bytes.Buffer
	holes uint64
}

func (m *memory) Skip(n uint64) error {
	m.holes += n
	_, err := m.Write(make([]byte, n))
	return err
}

// pattern reads the low byte of each offset's page number.
type pattern struct{}

func (pattern) ReadAt(b []byte, at int64) (int, error) {
	for i := range b {
		b[i] = byte((at + int64(i)) / image.PageSize)
	}
	return len(b), nil
}

func known(pages uint64, at int64) span {
	return span{part{pages * image.PageSize, pattern{}, at * image.PageSize}, true}
}

func hole(pages uint64) span    { return span{part{size: pages * image.PageSize}, true} }
func unknown(pages uint64) span { return span{part: part{size: pages * image.PageSize}} }

func area(start, pages uint64) *vma.VmaEntry {
	return &vma.VmaEntry{Start: proto.Uint64(start), End: proto.Uint64(start + pages*image.PageSize), Prot: proto.Uint32(3),
		Pgoff: proto.Uint64(0), Shmid: proto.Uint64(0), Flags: proto.Uint32(2), Status: proto.Uint32(1)}
}

func TestSegments(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spans []span
		want  []uint64 // pages in memory and in the file, of each segment
	}{
		{"all known", []span{known(1, 0), hole(2), known(1, 9)}, []uint64{4, 4}},
		{"nothing known", []span{unknown(4)}, []uint64{4, 0}},
		{"its beginning", []span{known(1, 0), unknown(3)}, []uint64{4, 1}},
		{"its end", []span{unknown(3), known(1, 0)}, []uint64{3, 0, 1, 1}},
		{"parts", []span{known(1, 0), unknown(1), unknown(1), known(1, 5)}, []uint64{3, 1, 1, 1}},
	} {
		var got []uint64
		at := uint64(0x10000)
		for _, s := range cut(area(at, 4), tt.spans) {
			if s.start != at || s.flags != elf.PF_R|elf.PF_W {
				t.Errorf("%s: segment at %#x, flags %v", tt.name, s.start, s.flags)
			}
			at = s.end
			got = append(got, (s.end-s.start)/image.PageSize, s.stored()/image.PageSize)
		}
		if !slices.Equal(got, tt.want) || at != 0x14000 {
			t.Errorf("%s: %v up to %#x, want %v", tt.name, got, at, tt.want)
		}
	}
}

// TestFile reads a core file back with the standard library.
func TestFile(t *testing.T) {
	var out memory
	note := note{"CORE", ntAuxv, []byte{1, 2, 3}}.encode(nil)
	segments := slices.Concat(cut(area(0x10000, 3), []span{known(2, 7), hole(1)}), cut(area(0x20000, 2), []span{unknown(2)}), cut(area(0x30000, 1), []span{known(1, 3)}))
	var p image.Progress
	if err := write(t.Context(), &out, note, segments, p.Begin(image.PhaseMemory, 0)); err != nil {
		t.Fatal(err)
	}
	if got := p.Phases()[0].Done; got != 4*image.PageSize {
		t.Errorf("%d bytes are counted, want those of four pages", got)
	}
	f, err := elf.NewFile(bytes.NewReader(out.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if f.Type != elf.ET_CORE || f.Machine != elf.EM_X86_64 || len(f.Progs) != 4 {
		t.Fatalf("%v %v, %d segments", f.Type, f.Machine, len(f.Progs))
	}
	if b, err := io.ReadAll(f.Progs[0].Open()); err != nil || !bytes.Equal(b, note) {
		t.Errorf("notes % x (%v)", b, err)
	}
	for i, want := range [][]byte{{7, 8, 0}, {}, {3}} {
		p := f.Progs[i+1]
		b, err := io.ReadAll(p.Open())
		if err != nil || len(b) != len(want)*image.PageSize || p.Off%image.PageSize != 0 {
			t.Fatalf("segment %d at %#x: %d bytes (%v)", i, p.Off, len(b), err)
		}
		for n, c := range want {
			if page := b[n*image.PageSize:][:image.PageSize]; !bytes.Equal(page, bytes.Repeat([]byte{c}, image.PageSize)) {
				t.Errorf("segment %d, page %d begins with %d, want %d", i, n, page[0], c)
			}
		}
	}
	if out.holes != image.PageSize {
		t.Errorf("holes of %d bytes", out.holes)
	}
}

// TestManySegments: their number has 16 bits in the header of the file (elf(5)).
func TestManySegments(t *testing.T) {
	var out memory
	var segments []segment
	for i := range uint64(70_000) {
		segments = append(segments, cut(area(i*2*image.PageSize, 1), []span{unknown(1)})...)
	}
	if err := write(t.Context(), &out, nil, segments, nil); err != nil {
		t.Fatal(err)
	}
	var h elf.Header64
	var s elf.Section64
	if err := errors.Join(binary.Read(&out, binary.LittleEndian, &h), skip(&out, h.Shoff-headerSize), binary.Read(&out, binary.LittleEndian, &s)); err != nil {
		t.Fatal(err)
	}
	if h.Phnum != manyHeaders || h.Shnum != 1 || s.Info != 70_001 || out.Len() != 0 {
		t.Errorf("%d program headers, %d sections, of which the first says %d; %d bytes behind", h.Phnum, h.Shnum, s.Info, out.Len())
	}
}

func skip(r io.Reader, n uint64) error {
	_, err := io.CopyN(io.Discard, r, int64(n))
	return err
}

type short struct{}

func (short) ReadAt(b []byte, _ int64) (int, error) { return len(b) / 2, io.EOF }

func TestNotWritten(t *testing.T) {
	segments := cut(area(0x1000, 1), []span{known(1, 0)})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := write(ctx, &memory{}, nil, segments, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	segments[0].parts[0].from = short{}
	if err := write(t.Context(), &memory{}, nil, segments, nil); err == nil || !strings.Contains(err.Error(), "a mapped file has become shorter") {
		t.Errorf("a file cut off: %v", err)
	}
}

// TestRegisters: a thread in a call looks as ptrace(2) shows it.
func TestRegisters(t *testing.T) {
	e := &core_x86.UserX86RegsEntry{Ip: proto.Uint64(0x1000), Ax: proto.Uint64(230), OrigAx: proto.Uint64(230)}
	const rax, origRax, rip = 10 * 8, 15 * 8, 16 * 8
	for _, tt := range []struct {
		restart        uint32
		ip, ax, origAx uint64
	}{
		{0, 0x1000, 230, 230},
		{512, 0x1002, negative(512), 35},
		{516, 0x1000, negative(516), 35},
	} {
		b, err := userRegs(e, &image.Thread{Restart: tt.restart, RestartNr: 35})
		if err != nil || len(b) != 27*8 {
			t.Fatalf("%d bytes (%v)", len(b), err)
		}
		le := binary.LittleEndian
		if ip, ax, orig := le.Uint64(b[rip:]), le.Uint64(b[rax:]), le.Uint64(b[origRax:]); ip != tt.ip || ax != tt.ax || orig != tt.origAx {
			t.Errorf("restart %d: rip %#x, rax %#x, orig_rax %d", tt.restart, ip, ax, orig)
		}
	}
	e.Mode = core_x86.UserX86RegsMode_COMPAT.Enum()
	if _, err := userRegs(e, &image.Thread{}); err == nil || !strings.Contains(err.Error(), "32-bit") {
		t.Errorf("32-bit code: %v", err)
	}
	if _, err := userRegs(nil, &image.Thread{}); err == nil {
		t.Error("no registers, and no error")
	}
}

func negative(n int64) uint64 { return uint64(-n) }

// TestXState: whatever the processor, the state has the places and the size that
// debuggers know of its components.
func TestXState(t *testing.T) {
	raw := make([]byte, 2432) // AVX-512 without the gap of MPX
	binary.LittleEndian.PutUint64(raw[fxReserved:], 0xe7)
	words := func(n int, v uint32) []uint32 { return slices.Repeat([]uint32{v}, n) }
	of := func(raw []byte, s *core_x86.UserX86XsaveEntry) *inspect.Thread {
		e := &core_x86.UserX86FpregsEntry{Mxcsr: proto.Uint32(0x1f80), StSpace: words(32, 1), XmmSpace: words(64, 2), Xsave: s}
		return &inspect.Thread{Core: &criu_core.CoreEntry{ThreadInfo: &core_x86.ThreadInfoX86{Fpregs: e}}, Extra: &image.Thread{Xstate: raw}}
	}
	avx := &core_x86.UserX86XsaveEntry{XstateBv: proto.Uint64(7), YmmhSpace: words(64, 3)}
	for _, tt := range []struct {
		name string
		t    *inspect.Thread
		size int
		have uint64
	}{
		{"AVX-512, in its initial state", of(raw, avx), 2688, 0xe7},
		{"AVX, by criu", of(nil, avx), 832, 7},
		{"protection keys", of(nil, &core_x86.UserX86XsaveEntry{XstateBv: proto.Uint64(0x207), YmmhSpace: words(64, 3), Pkru: words(2, 4)}), 2696, 0x207},
		{"without XSAVE", of(nil, nil), fxSize, 0},
	} {
		x, err := xstate(tt.t)
		if err != nil || len(x) != tt.size || x[32] != 1 || x[160] != 2 || binary.LittleEndian.Uint64(x[fxReserved:]) != tt.have {
			t.Errorf("%s: %d bytes, XCR0 %#x (%v)", tt.name, len(x), binary.LittleEndian.Uint64(x[fxReserved:]), err)
		} else if tt.size > xfirst && x[xfirst] != 3 {
			t.Errorf("%s: AVX begins with %d", tt.name, x[xfirst])
		}
	}
	if _, err := xstate(of(nil, &core_x86.UserX86XsaveEntry{YmmhSpace: words(65, 3)})); err == nil {
		t.Error("more registers than there are, and no error")
	}
}

func TestMappingsOutOfPlace(t *testing.T) {
	overflow := area(0x1000, 1)
	overflow.Pgoff = proto.Uint64(^uint64(0) &^ (image.PageSize - 1))
	odd := area(0x1000, 1)
	odd.End = proto.Uint64(0x1801)
	for name, vmas := range map[string][]*vma.VmaEntry{
		"overlap":  {area(0x1000, 2), area(0x2000, 1)},
		"empty":    {area(0x1000, 0)},
		"no page":  {odd},
		"overflow": {overflow},
	} {
		if checkMappings(vmas) == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
