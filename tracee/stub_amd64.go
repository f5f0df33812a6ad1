package tracee

import "encoding/binary"

// The stub is a static program of one page of text and a scratch area, made
// here byte by byte. Addresses are fixed: below where anything else starts.
const (
	stubBase    = 0x200000
	stubBlock   = 0x100 // offsets into the text page
	stubPark    = 0x800
	stubReaper  = 0x840
	stubOrphan  = 0xa00
	stubSigset  = 0xf00 // the set {SIGCHLD} for the reaper
	stubScratch = 0x10000
	scratchSize = 0x10000
)

// ELF constants, elf(5).
const (
	etExec    = 2
	emX86_64  = 62
	ptLoad    = 1
	pfX       = 1
	pfW       = 2
	pfR       = 4
	ehSize    = 64
	phentSize = 56
)

func stubELF() []byte {
	b := make([]byte, pageSize)
	le := binary.LittleEndian
	copy(b, []byte{0x7f, 'E', 'L', 'F', 2, 1, 1})
	le.PutUint16(b[16:], etExec)
	le.PutUint16(b[18:], emX86_64)
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[24:], stubBase+stubPark) // entry
	le.PutUint64(b[32:], ehSize)            // program headers
	le.PutUint16(b[52:], ehSize)
	le.PutUint16(b[54:], phentSize)
	le.PutUint16(b[56:], 2)
	programHeader(b[ehSize:], pfR|pfX, stubBase, pageSize, pageSize)
	programHeader(b[ehSize+phentSize:], pfR|pfW, stubBase+stubScratch, 0, scratchSize)
	copy(b[stubBlock:], encodeBlock())
	copy(b[stubPark:], text(parkAddr))
	copy(b[stubReaper:], text(reaperAddr))
	copy(b[stubOrphan:], text(orphanAddr))
	le.PutUint64(b[stubSigset:], sigchldSet)
	return b
}

func programHeader(p []byte, flags uint32, addr, fileSize, memSize uint64) {
	le := binary.LittleEndian
	le.PutUint32(p, ptLoad)
	le.PutUint32(p[4:], flags)
	le.PutUint64(p[16:], addr)
	le.PutUint64(p[24:], addr)
	le.PutUint64(p[32:], fileSize)
	le.PutUint64(p[40:], memSize)
	le.PutUint64(p[48:], pageSize)
}

func stubSite() Site {
	s := siteAt(stubBase + stubBlock)
	s.Base, s.Size = stubBase+stubScratch, scratchSize
	return s
}

// reaperRegs make a stub run ckpt's init.
func reaperRegs(r Regs, main int, status int) Regs {
	r.Orig_rax, r.Eflags, r.Rip = noSyscall, plainFlags, stubBase+stubReaper
	r.R12, r.R13, r.R14 = uint64(main), uint64(status), stubBase+stubSigset
	return r
}

// orphanRegs make a stub wait for its children, and end.
func orphanRegs(r Regs) Regs {
	r.Orig_rax, r.Eflags, r.Rip = noSyscall, plainFlags, stubBase+stubOrphan
	return r
}
