package core

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/regfile"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/vma"
	"golang.org/x/sys/unix"

	"ckpt/failure"
)

// mappedFile is a file that a process has mapped, if it still is what it was.
type mappedFile struct {
	file  *os.File // nil: it is not there, or changed; or a ghost
	ghost *ghost   // one without a name
	size  uint64
}

// there tells whether it can be read.
func (f *mappedFile) there() bool { return f.file != nil || f.ghost != nil }

func (f *mappedFile) close() {
	if f.file != nil {
		_ = f.file.Close()
	}
}

func (f *mappedFile) isELF() bool {
	b := make([]byte, len(elf.ELFMAG))
	var err error
	switch {
	case f.file != nil:
		_, err = f.file.ReadAt(b, 0)
	case f.ghost != nil:
		_, err = f.ghost.ReadAt(b, 0)
	}
	return err == nil && string(b) == elf.ELFMAG
}

// file opens a mapped file by its name, or finds what the image has of one that was
// deleted. Where it is gone, or another, that is noted once.
func (s *space) file(id uint32) (*mappedFile, error) {
	if f := s.files[id]; f != nil {
		return f, nil
	}
	f := &mappedFile{}
	s.files[id] = f
	reg := s.in.Files[id].GetReg()
	if reg == nil {
		return f, nil // the ring of a socket
	}
	var err error
	switch ghost, is := s.ghosts.of[id]; {
	case is:
		if f.ghost, err = s.ghosts.describe(ghost); err != nil {
			return nil, err
		}
		f.size = f.ghost.size
	case s.deleted[id]:
		err = errors.New("it was deleted")
	default:
		err = f.open(reg, s.in.Extras[id].GetMtimeNs())
	}
	if err != nil {
		s.lacks = append(s.lacks, Lacks{reg.GetName(), err.Error()})
	}
	return f, nil
}

// open opens a file that has the size and the time it had. mtime is in ns; 0:
// not known. An image may name anything: what is no regular file is not opened to
// be read, which a device could take for more.
func (f *mappedFile) open(reg *regfile.RegFileEntry, mtime int64) error {
	fd, err := unix.Open(reg.GetName(), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	f.size = uint64(st.Size)
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return errors.New("it is no regular file")
	case reg.Size != nil && reg.GetSize() != f.size, mtime != 0 && mtime != st.Mtim.Nano():
		return errors.New("it has changed since")
	}
	f.file, err = os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
	return failure.WithoutPath(err)
}

// fileSpans are the contents of a mapped file, zero behind its end; not known
// where there is no file to read.
func (s *space) fileSpans(id uint32, offset, size uint64) ([]span, error) {
	if m := s.in.Files[id].GetMemfd(); m != nil {
		return s.objectSpans(uint64(s.in.Memfds[uint64(m.GetInodeId())].GetShmid()), offset, size)
	}
	f, err := s.file(id)
	if err != nil || !f.there() {
		return []span{{part: part{size: size}}}, err
	}
	var out []span
	there := min(size, f.size-min(f.size, offset))
	switch {
	case there == 0:
	case f.ghost != nil:
		out = f.ghost.spans(offset, there)
	default:
		out = append(out, span{part{there, f.file, int64(offset)}, true})
	}
	if there < size {
		out = append(out, span{part{size: size - there}, true})
	}
	return out, nil
}

// sharedFileSpans: a memfd is memory without a file, as the kernel sees it.
func (s *space) sharedFileSpans(v *vma.VmaEntry) ([]span, error) {
	size, id := v.GetEnd()-v.GetStart(), uint32(v.GetShmid())
	bit := uint32(mappedSharedBit)
	if s.in.Files[id].GetMemfd() != nil || s.deleted[id] {
		bit = anonSharedBit
	}
	if s.filter&bit == 0 {
		return []span{{part: part{size: size}}}, nil
	}
	return s.fileSpans(id, v.GetPgoff(), size)
}

// bytesAt reads bytes that are in memory.
func bytesAt(b []byte) io.ReaderAt { return bytes.NewReader(b) }
