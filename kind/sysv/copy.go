package sysv

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"ckpt/image"
	"ckpt/tracee"
)

// copyChunk is how much is copied at a time, in bytes.
const copyChunk = 1 << 20

// copier moves the contents of a segment, attached at start of the process
// pid, to a pages file. It reads memory, not the segment's file, for that ends
// at the segment's size, and the rest of the last page is the program's, too.
type copier struct {
	pid   int
	start uint64
	out   *image.PagesWriter
	buf   []byte
}

// copyExtents copies what has pages, as lseek(2) finds them.
func (c *copier) copyExtents(file *os.File, size uint64) error {
	fd := int(file.Fd())
	for at := int64(0); ; {
		data, err := unix.Seek(fd, at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("find its pages: %w", err)
		}
		hole, err := unix.Seek(fd, data, unix.SEEK_HOLE)
		if err != nil {
			return fmt.Errorf("find its holes: %w", err)
		}
		from, end := uint64(data)/image.PageSize*image.PageSize, min(size, (uint64(hole)+image.PageSize-1)/image.PageSize*image.PageSize)
		if end <= from {
			return nil
		}
		for from < end {
			b := c.buf[:min(uint64(len(c.buf)), end-from)]
			if err := c.move(from, b); err != nil {
				return err
			}
			from += uint64(len(b))
		}
		at = int64(end)
	}
}

func (c *copier) move(from uint64, b []byte) error {
	if err := tracee.ReadMemory(c.pid, c.start+from, b); err != nil {
		return err
	}
	return c.out.Write(from, b)
}

// copySparse looks at every page and leaves out zeros.
func (c *copier) copySparse(size uint64) error {
	for at := uint64(0); at < size; {
		b := c.buf[:min(uint64(len(c.buf)), size-at)]
		if err := tracee.ReadMemory(c.pid, c.start+at, b); err != nil {
			return err
		}
		for len(b) > 0 {
			n := sameSort(b)
			if !zero(b[:image.PageSize]) {
				if err := c.out.Write(at, b[:n]); err != nil {
					return err
				}
			}
			b, at = b[n:], at+uint64(n)
		}
	}
	return nil
}

// sameSort is how many bytes at the start of b are pages of zeros, or pages
// with something in them. b is whole pages.
func sameSort(b []byte) int {
	first := zero(b[:image.PageSize])
	n := image.PageSize
	for n < len(b) && zero(b[n:n+image.PageSize]) == first {
		n += image.PageSize
	}
	return n
}

func zero(page []byte) bool {
	for _, v := range page {
		if v != 0 {
			return false
		}
	}
	return true
}
