package image

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"

	"ckpt/failure"
)

// Compressed pages files are in the seekable format of zstd (contrib/seekable_format
// in its sources): frames that can each be decoded alone, and behind them a frame
// that decoders skip, with the sizes of all others. `zstd -d` makes the plain file
// of it.

// zst is what the name of a compressed file ends with, behind its own.
const zst = ".zst"

const (
	frameSize     = 1 << 20 // contents of a frame that ckpt writes, in bytes
	mostFrame     = 8 << 20 // of one that it reads
	skippable     = 0x184D2A5E
	seekableMagic = 0x8F92EAB1
	skipHeader    = 8
	seekFooter    = 9 // number of frames, descriptor, magic
	seekEntry     = 8 // compressed and decompressed size
	hasChecksums  = 1 << 7
)

// Level is how much time goes into compression.
type Level int

// Levels of compression: none, then as those of zstd (1, 3, 7 and 11 there).
const (
	Plain Level = iota
	Fastest
	Default
	Better
	Best
)

// compression encodes frames for all files of an image.
type compression struct{ enc *zstd.Encoder }

func newCompression(l Level) (*compression, error) {
	if l == Plain {
		return nil, nil
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.EncoderLevel(l)), zstd.WithWindowSize(frameSize), zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0)))
	if err != nil {
		return nil, fmt.Errorf("set up compression: %w", err)
	}
	return &compression{enc}, nil
}

// frameWriter compresses what is written to it, several frames at a time.
type frameWriter struct {
	c       *compression
	out     io.Writer
	buf     []byte
	pending []chan []byte // frames being encoded, in order
	sizes   []uint32      // of encoded and decoded frames, in turn
	err     error
}

func (w *frameWriter) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		k := min(len(b), frameSize-len(w.buf))
		w.buf, b = append(w.buf, b[:k]...), b[k:]
		if len(w.buf) == frameSize {
			w.encode()
		}
	}
	return n, w.err
}

// encode starts on the frame in buf, and waits for an earlier one where there are
// enough.
func (w *frameWriter) encode() {
	frame, done := w.buf, make(chan []byte, 1)
	w.buf = nil
	w.pending = append(w.pending, done)
	w.sizes = append(w.sizes, 0, uint32(len(frame)))
	go func() { done <- w.c.enc.EncodeAll(frame, nil) }()
	for len(w.pending) > runtime.GOMAXPROCS(0) {
		w.writeOne()
	}
}

func (w *frameWriter) writeOne() {
	b := <-w.pending[0]
	w.sizes[len(w.sizes)-2*len(w.pending)] = uint32(len(b))
	w.pending = w.pending[1:]
	if w.err == nil {
		_, w.err = w.out.Write(b)
	}
}

// Close writes what is left, and the sizes.
func (w *frameWriter) Close() error {
	if len(w.buf) > 0 {
		w.encode()
	}
	for len(w.pending) > 0 {
		w.writeOne()
	}
	if w.err != nil {
		return w.err
	}
	le := binary.LittleEndian
	b := le.AppendUint32(nil, skippable)
	b = le.AppendUint32(b, uint32(4*len(w.sizes)+seekFooter))
	for _, n := range w.sizes {
		b = le.AppendUint32(b, n)
	}
	b = le.AppendUint32(b, uint32(len(w.sizes)/2))
	b = le.AppendUint32(append(b, 0), seekableMagic)
	_, w.err = w.out.Write(b)
	return w.err
}

// frames reads such a file. It may be used from several goroutines at once.
type frames struct {
	name string
	r    io.ReaderAt
	all  []frame
	size int64 // of what they decode to

	mu   sync.Mutex
	last int // the frame in buf; -1: none
	buf  []byte
}

// frame is where one stands in the file and in what is decoded, in bytes.
type frame struct {
	at, size    int64
	from, bytes int64
}

// openFrames reads the sizes of all frames.
func openFrames(name string, r io.ReaderAt, size int64) (*frames, error) {
	f := &frames{name: name, r: r, last: -1}
	le := binary.LittleEndian
	var foot [seekFooter]byte
	if size < skipHeader+seekFooter {
		return nil, f.damaged("it is cut off")
	}
	if err := f.read(foot[:], size-seekFooter); err != nil {
		return nil, err
	}
	if le.Uint32(foot[5:]) != seekableMagic {
		return nil, f.damaged("it does not end with the sizes of its frames")
	}
	n, entry := int64(le.Uint32(foot[:])), int64(seekEntry)
	if foot[4]&hasChecksums != 0 {
		entry += 4
	}
	table := n*entry + seekFooter
	end := size - table - skipHeader
	if end < 0 || n > math.MaxInt32/mostFrame*1024 {
		return nil, f.damaged("it tells of %d frames", n)
	}
	b := make([]byte, table+skipHeader)
	if err := f.read(b, end); err != nil {
		return nil, err
	}
	if le.Uint32(b) != skippable || int64(le.Uint32(b[4:])) != table {
		return nil, f.damaged("the sizes of its frames are no frame")
	}
	at := int64(0)
	for b = b[skipHeader:]; n > 0; n, b = n-1, b[entry:] {
		one := frame{at: at, size: int64(le.Uint32(b)), from: f.size, bytes: int64(le.Uint32(b[4:]))}
		at, f.size = at+one.size, f.size+one.bytes
		if one.bytes > mostFrame || one.size > 2*mostFrame {
			return nil, f.damaged("a frame of %s", humanBytes(one.bytes))
		}
		if one.bytes > 0 {
			f.all = append(f.all, one)
		}
	}
	if at != end {
		return nil, f.damaged("its frames have %s, not %s", humanBytes(end), humanBytes(at))
	}
	return f, nil
}

func (f *frames) damaged(format string, args ...any) error {
	return failure.Damagedf("%s is damaged: %w", f.name, fmt.Errorf(format, args...))
}

func (f *frames) read(b []byte, at int64) error {
	n, err := f.r.ReadAt(b, at)
	if n == len(b) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return f.damaged("it is cut off")
	}
	return err
}

// ReadAt decodes (io.ReaderAt).
func (f *frames) ReadAt(b []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return readPieces(f, f.size, b, off)
}

// at gives decoded bytes from an offset on, at least one, until it is called again.
// Preconditions: the offset is below size; mu is held, or nobody else knows f.
func (f *frames) at(off int64) ([]byte, error) {
	i := f.holding(off)
	if f.last != i {
		f.last = -1
		b, err := f.decode(i, f.buf)
		if err != nil {
			return nil, err
		}
		f.buf, f.last = b, i
	}
	return f.buf[off-f.all[i].from:], nil
}

// holding is the index of the frame that has an offset.
func (f *frames) holding(off int64) int {
	low, high := 0, len(f.all)
	for high-low > 1 {
		if mid := (low + high) / 2; f.all[mid].from <= off {
			low = mid
		} else {
			high = mid
		}
	}
	return low
}

// decode decodes one frame into b, or into new memory if that is too small.
func (f *frames) decode(i int, b []byte) ([]byte, error) {
	one := f.all[i]
	stored := make([]byte, one.size)
	if err := f.read(stored, one.at); err != nil {
		return nil, err
	}
	if int64(cap(b)) < one.bytes {
		b = make([]byte, 0, one.bytes)
	}
	d, err := decoders()
	if err != nil {
		return nil, fmt.Errorf("set up decompression: %w", err)
	}
	out, err := d.DecodeAll(stored, b[:0])
	if err != nil {
		return nil, f.damaged("a frame at %s does not decode: %w", humanBytes(one.at), err)
	}
	if int64(len(out)) != one.bytes {
		return nil, f.damaged("a frame at %s has %s, not %s", humanBytes(one.at), humanBytes(int64(len(out))), humanBytes(one.bytes))
	}
	return out, nil
}

// decoders is what decodes frames of all files: it holds no state between them.
var decoders = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(mostFrame))
})
