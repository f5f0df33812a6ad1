package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"

	"runtime"
	"sync"
	"sync/atomic"
)

// chunk is what one checksum covers, in bytes.
const chunk = 4 << 20

// block is how much is read before it is summed: small enough that the
// processor's cache still holds it.
const block = 256 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// summer makes the checksums of a file written from front to back.
type summer struct {
	crcs   []uint32
	crc    uint32
	strong bool // SHA-256, too
	shas   [][]byte
	sha    hash.Hash
	n      int // bytes of the current chunk
	size   uint64
}

func (s *summer) add(b []byte) {
	s.size += uint64(len(b))
	for len(b) > 0 {
		k := min(len(b), chunk-s.n)
		s.crc = crc32.Update(s.crc, castagnoli, b[:k])
		if s.strong {
			if s.sha == nil {
				s.sha = sha256.New()
			}
			s.sha.Write(b[:k])
		}
		s.n += k
		b = b[k:]
		if s.n == chunk {
			s.end()
		}
	}
}

// end ends a chunk.
func (s *summer) end() {
	s.crcs, s.crc, s.n = append(s.crcs, s.crc), 0, 0
	if s.strong {
		s.shas = append(s.shas, s.sha.Sum(nil))
		s.sha.Reset()
	}
}

// of gives the sums of all that was added, for a file of that name.
func (s *summer) of(name string) *FileSum {
	if s.n > 0 {
		s.end()
	}
	return &FileSum{Name: name, Size: s.size, Crc32C: s.crcs, Sha256: s.shas}
}

// right tells whether b is chunk i of the file that s is of. Where SHA-256 is there,
// it alone decides.
func (s *FileSum) right(i int64, b []byte) bool {
	if n := s.GetSha256(); len(n) > 0 {
		sum := sha256.Sum256(b)
		return i < int64(len(n)) && bytes.Equal(n[i], sum[:])
	}
	n := s.GetCrc32C()
	return i < int64(len(n)) && n[i] == crc32.Checksum(b, castagnoli)
}

// matches tells whether chunk i of a file has the sums that were made of it.
func (s *FileSum) matches(i int, made *FileSum) bool {
	if len(s.Sha256) > 0 && !bytes.Equal(s.Sha256[i], made.Sha256[0]) {
		return false
	}
	return s.Crc32C[i] == made.Crc32C[0]
}

// same tells whether two files have the same sum of chunk i.
func (s *FileSum) same(o *FileSum, i int) bool {
	return i < min(len(s.Crc32C), len(o.Crc32C)) && s.Crc32C[i] == o.Crc32C[i]
}

// chunks is the number of checksums of a file of size bytes.
func chunks(size uint64) int { return int((size + chunk - 1) / chunk) }

// part is one chunk of a file to be summed.
type part struct {
	name  string
	index int
	size  int // at most chunk
}

func (p part) offset() int64 { return int64(p.index) * chunk }

func partsOf(name string, size uint64) []part {
	var out []part
	for i := range chunks(size) {
		out = append(out, part{name, i, int(min(chunk, size-uint64(i)*chunk))})
	}
	return out
}

// totalOf is how much parts are together, in bytes.
func totalOf(parts []part) (n uint64) {
	for _, p := range parts {
		n += uint64(p.size)
	}
	return n
}

// sumParts reads every part on all processors and passes its sum on. done is
// called from several goroutines; an error of the reading goes to it, too. phase
// counts what is read.
func sumParts(ctx context.Context, open func(name string) (*stored, error), parts []part, strong bool, phase *Phase, done func(part, *FileSum, error)) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(parts)) {
		wg.Go(func() {
			buf := make([]byte, block)
			for ctx.Err() == nil {
				i := next.Add(1) - 1
				if i >= int64(len(parts)) {
					return
				}
				sum, err := sumPart(open, parts[i], buf, strong)
				phase.Add(uint64(parts[i].size))
				done(parts[i], sum, err)
			}
		})
	}
	wg.Wait()
	return ctx.Err()
}

func sumPart(open func(string) (*stored, error), p part, buf []byte, strong bool) (*FileSum, error) {
	f, err := open(p.name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sum := summer{strong: strong}
	for at := 0; at < p.size; {
		n, err := f.ReadAt(buf[:min(len(buf), p.size-at)], p.offset()+int64(at))
		if n == 0 && err != nil {
			if errors.Is(err, io.EOF) {
				err = fmt.Errorf("read %s: %w", p.name, io.ErrUnexpectedEOF)
			}
			return nil, err
		}
		sum.add(buf[:n])
		at += n
	}
	return sum.of(p.name), nil
}

// humanBytes writes a size as people say it: "12.4 MB".
func humanBytes(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d bytes", n)
	}
	v, unit := float64(n)/1000, 0
	for v >= 999.95 && unit < 4 {
		v, unit = v/1000, unit+1
	}
	return fmt.Sprintf("%.1f %s", v, []string{"kB", "MB", "GB", "TB", "PB"}[unit])
}
