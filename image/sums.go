package image

import (
	"context"
	"errors"
	"fmt"
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
	done []uint32
	cur  uint32
	n    int // bytes of the current chunk
	size uint64
}

func (s *summer) add(b []byte) {
	s.size += uint64(len(b))
	for len(b) > 0 {
		k := min(len(b), chunk-s.n)
		s.cur = crc32.Update(s.cur, castagnoli, b[:k])
		s.n += k
		b = b[k:]
		if s.n == chunk {
			s.done, s.cur, s.n = append(s.done, s.cur), 0, 0
		}
	}
}

func (s *summer) sums() []uint32 {
	if s.n > 0 {
		return append(s.done, s.cur)
	}
	return s.done
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

// sumParts reads every part on all processors and passes its sum on. done is
// called from several goroutines; an error of the reading goes to it, too.
func sumParts(ctx context.Context, open func(name string) (*stored, error), parts []part, done func(part, uint32, error)) error {
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
				sum, err := sumPart(open, parts[i], buf)
				done(parts[i], sum, err)
			}
		})
	}
	wg.Wait()
	return ctx.Err()
}

func sumPart(open func(string) (*stored, error), p part, buf []byte) (uint32, error) {
	f, err := open(p.name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var sum uint32
	for at := 0; at < p.size; {
		n, err := f.ReadAt(buf[:min(len(buf), p.size-at)], p.offset()+int64(at))
		if n == 0 && err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return 0, fmt.Errorf("read %s: %w", p.name, err)
		}
		sum = crc32.Update(sum, castagnoli, buf[:n])
		at += n
	}
	return sum, nil
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
