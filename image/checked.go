package image

import (
	"errors"
	"fmt"
	"io"

	"ckpt/failure"
)

// checked reads a file of an image by chunks, each compared with its sum before
// any byte of it is handed out. It holds one chunk in memory.
type checked struct {
	name string
	r    io.ReaderAt
	size int64
	sums *FileSum // nil: not checked
	buf  []byte   // a chunk that was checked
	from int64    // where in the file buf begins; -1: nothing read yet
}

// at gives checked bytes from an offset on, at least one. Preconditions: it is
// below size.
func (c *checked) at(off int64) ([]byte, error) {
	index := off / chunk
	if c.from != index*chunk {
		from := index * chunk
		n := int(min(chunk, c.size-from))
		if cap(c.buf) < n {
			c.buf = make([]byte, n)
		}
		c.buf, c.from = c.buf[:n], -1
		if k, err := c.r.ReadAt(c.buf, from); k < n {
			if errors.Is(err, io.EOF) {
				return nil, c.damaged(from+int64(k), "it is cut off")
			}
			return nil, err
		}
		if c.sums != nil && !c.sums.right(index, c.buf) {
			return nil, c.damaged(from, "checksum")
		}
		c.from = from
	}
	return c.buf[off-c.from:], nil
}

// ReadAt reads checked bytes (io.ReaderAt).
func (c *checked) ReadAt(b []byte, off int64) (int, error) { return readPieces(c, c.size, b, off) }

// pieces are contents that come some at a time.
type pieces interface {
	// at gives them from an offset on, at least one byte, until it is called again.
	at(off int64) ([]byte, error)
}

// readPieces is io.ReaderAt of size bytes.
func readPieces(p pieces, size int64, b []byte, off int64) (int, error) {
	done := 0
	for done < len(b) {
		if off+int64(done) >= size {
			return done, io.EOF
		}
		from, err := p.at(off + int64(done))
		if err != nil {
			return done, err
		}
		done += copy(b[done:], from)
	}
	return done, nil
}

// damaged says what is wrong with the file, and where.
func (c *checked) damaged(at int64, format string, args ...any) error {
	why := fmt.Errorf(format, args...)
	return failure.Damagedf("%s is damaged at %s (%w)", c.name, humanBytes(at), why)
}
