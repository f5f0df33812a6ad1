package memory

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/tracee"
)

// reader reads the private pages of a process without making any of them its own
// that it has in common with others. process_vm_readv(2), which is quicker, does
// that: it pins them, and pages shared copy-on-write are copied first (5.19,
// commit a7f226604170). /proc/PID/mem does not pin.
type reader struct {
	pid          int
	pagemap, mem *os.File
	common       []bool // of the pages last read: other processes may have them, too
}

func readerOf(p *kind.Proc, pagemap *os.File) (*reader, error) {
	mem, err := p.FS.OpenFile("mem", os.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		return nil, err
	}
	return &reader{pid: int(p.Lead().Host), pagemap: pagemap, mem: mem, common: make([]bool, chunk/page)}, nil
}

func (r *reader) close() { _ = r.mem.Close() }

// read fills b, whole pages and a chunk at most, from address at, and tells of
// each page whether others may have it, too: valid until the next read.
func (r *reader) read(at uint64, b []byte) (common []bool, err error) {
	common = r.common[:len(b)/page]
	if err := kernel.MaybeCommon(r.pagemap, at, common); err != nil {
		return nil, err
	}
	for i := 0; i < len(common); {
		j := i + 1
		for j < len(common) && common[j] == common[i] {
			j++
		}
		part, from := b[i*page:j*page], at+uint64(i*page)
		if common[i] {
			err = readFile(r.mem, part, from)
		} else {
			err = tracee.ReadMemory(r.pid, from, part)
		}
		if err != nil {
			return nil, err
		}
		i = j
	}
	return common, nil
}

func readFile(mem *os.File, b []byte, at uint64) error {
	if _, err := mem.ReadAt(b, int64(at)); err != nil {
		return fmt.Errorf("read %d bytes of memory at %#x: %w", len(b), at, err)
	}
	return nil
}
