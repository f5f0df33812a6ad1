package core

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"ckpt/inspect"
)

// Types of notes (include/uapi/linux/elf.h).
const (
	ntPRStatus  = 1
	ntFPRegSet  = 2
	ntPRPSInfo  = 3
	ntAuxv      = 6
	ntX86XState = 0x202
	ntFile      = 0x46494c45
	ntSigInfo   = 0x53494749
)

// note is an entry of PT_NOTE.
type note struct {
	name string
	typ  uint32
	desc []byte
}

// encode appends n: sizes, type, name and contents, each filled up to 4 bytes.
func (n note) encode(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, uint32(len(n.name)+1))
	b = le.AppendUint32(b, uint32(len(n.desc)))
	b = le.AppendUint32(b, n.typ)
	b = padded(append(append(b, n.name...), 0), 4)
	return padded(append(b, n.desc...), 4)
}

func padded(b []byte, to int) []byte {
	for len(b)%to != 0 {
		b = append(b, 0)
	}
	return b
}

// notesOf are the notes in the kernel's order: those of the process stand among
// those of its first thread. A leading thread that has ended before the others
// has none, and debuggers take the next for the first.
func notesOf(in *inspect.Image, p *inspect.Process, s *space) ([]byte, error) {
	threads := slices.DeleteFunc(slices.Clone(p.Threads), func(t inspect.Thread) bool { return t.Extra.GetDead() })
	ppid := parentOf(in, p)
	var out []byte
	for i := range threads {
		status, fp, x, err := threadNotes(p, &threads[i], ppid)
		if err != nil {
			return nil, fmt.Errorf("pid %d (%s): %w", p.Entry.GetPid(), p.TC.GetComm(), err)
		}
		out = status.encode(out)
		if i == 0 {
			for _, n := range processNotes(p, s, ppid) {
				out = n.encode(out)
			}
		}
		out = fp.encode(out)
		if len(x.desc) > len(fp.desc) {
			out = x.encode(out)
		}
	}
	return out, nil
}

func processNotes(p *inspect.Process, s *space, ppid uint32) []note {
	notes := []note{{"CORE", ntPRPSInfo, psinfo(p, s, ppid)}}
	if sig := stopSignal(p); sig != 0 {
		info := make([]byte, 128) // siginfo_t
		binary.LittleEndian.PutUint32(info, uint32(sig))
		notes = append(notes, note{"CORE", ntSigInfo, info})
	}
	var auxv []byte
	for _, v := range p.MM.GetMmSavedAuxv() {
		auxv = binary.LittleEndian.AppendUint64(auxv, v)
	}
	return append(notes, note{"CORE", ntAuxv, auxv}, note{"CORE", ntFile, s.fileNote()})
}

// parentOf is the parent's number: that of a process whose parent is not in the
// image is ckpt's init.
func parentOf(in *inspect.Image, p *inspect.Process) uint32 {
	if p.Entry.GetPpid() == 0 && p.Entry.GetPid() != 1 && in.In.Manifest() != nil {
		return 1
	}
	return p.Entry.GetPpid()
}

// psinfo is struct elf_prpsinfo of <sys/procfs.h>.
func psinfo(p *inspect.Process, s *space, ppid uint32) []byte {
	le, tc := binary.LittleEndian, p.Threads[0].Core.GetThreadCore()
	state := byte('R')
	if p.Stopped() {
		state = 'T'
	}
	b := []byte{byte(strings.IndexByte("RSDTZW", state)), state, 0, byte(tc.GetSchedNice()), 0, 0, 0, 0}
	b = le.AppendUint64(b, uint64(p.TC.GetFlags()))
	for _, v := range []uint32{tc.GetCreds().GetUid(), tc.GetCreds().GetGid(), p.Entry.GetPid(), ppid, p.Entry.GetPgid(), p.Entry.GetSid()} {
		b = le.AppendUint32(b, v)
	}
	const fname, psargs = 16, 80 // ELF_PRARGSZ
	b = append(b, field(p.TC.GetComm(), fname)...)
	return append(b, field(s.arguments(psargs), psargs)...)
}

// field is text that ends with a zero in n bytes.
func field(text string, n int) []byte {
	b := make([]byte, n)
	copy(b[:n-1], text)
	return b
}
