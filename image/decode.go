package image

import (
	"encoding/binary"
	"errors"
	"io"

	"google.golang.org/protobuf/proto"
)

// maxEntry bounds an entry and maxData what Data returns, in bytes: lengths
// in a file are somebody's claim.
const (
	maxEntry = 64 << 20
	maxData  = 1 << 30
)

// Decoder reads one file from front to back: Each is built on it, and files
// whose entries are of several messages need it.
type Decoder struct {
	checked
	file  *stored // nil in tests
	pos   int64
	count func(n int) // counts what was read of contents; nil: nobody does
}

// Decode opens a file for reading its entries; nil when it does not exist.
// The caller closes it.
func (r *Reader) Decode(f Format, id string) (*Decoder, error) {
	return r.decode(f, f.Name(id))
}

func (r *Reader) decode(f Format, name string) (*Decoder, error) {
	d := r.decodeTranslated(name)
	if d == nil {
		p, err := r.openPlain(name)
		if err != nil || p == nil {
			return nil, err
		}
		d = newDecoder(p.name, p.r, p.size, p.sums)
		d.file, d.count = p.file, p.count
	}
	if err := d.header(f); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func newDecoder(name string, r io.ReaderAt, size int64, sums *FileSum) *Decoder {
	return &Decoder{checked: checked{name: name, r: r, size: size, sums: sums, from: -1}}
}

// Close closes the file.
func (d *Decoder) Close() {
	if d.file != nil {
		_ = d.file.Close()
	}
}

// Offset is where the next entry or data begins, in bytes from the start.
func (d *Decoder) Offset() int64 { return d.pos }

// Rest is the number of bytes behind Offset.
func (d *Decoder) Rest() int64 { return d.size - d.pos }

func (d *Decoder) header(f Format) error {
	want := f.header()
	got := make([]byte, len(want))
	if d.size < int64(len(want)) {
		return d.damaged(0, "it is cut off")
	}
	if err := d.read(got); err != nil {
		return err
	}
	if string(got) == string(want) {
		return nil
	}
	if f != Inventory && binary.LittleEndian.Uint32(got) == magicService {
		return d.damaged(0, "a service file of criu's, not %q", f.Prefix)
	}
	return d.damaged(0, "not of format %q: it begins with % x", f.Prefix, got)
}

// Next decodes the next entry into m; io.EOF when there is none.
func (d *Decoder) Next(m proto.Message) error {
	at := d.pos
	if d.Rest() == 0 {
		return io.EOF
	}
	if d.Rest() < 4 {
		return d.damaged(at, "it is cut off")
	}
	var b [4]byte
	if err := d.read(b[:]); err != nil {
		return err
	}
	n := int64(binary.LittleEndian.Uint32(b[:]))
	if n > maxEntry {
		return d.damaged(at, "an entry of %s", humanBytes(n))
	}
	if n > d.Rest() {
		return d.damaged(at, "an entry of %s is cut off", humanBytes(n))
	}
	body := make([]byte, n)
	if err := d.read(body); err != nil {
		return err
	}
	if err := proto.Unmarshal(body, m); err != nil {
		// Bad wire format, or a required field is missing (proto2).
		return d.damaged(at, "%w", err)
	}
	return nil
}

// Data reads the n bytes behind the last entry.
func (d *Decoder) Data(n int) ([]byte, error) {
	if n < 0 || n > maxData {
		return nil, d.damaged(d.pos, "%d bytes of data", n)
	}
	if int64(n) > d.Rest() {
		return nil, d.damaged(d.pos, "%s of data are cut off", humanBytes(int64(n)))
	}
	b := make([]byte, n)
	if err := d.read(b); err != nil {
		return nil, err
	}
	return b, nil
}

// Stream reads the n bytes behind the last entry bit by bit, for contents of
// any size. It must be read to its end before the next entry.
func (d *Decoder) Stream(n int64) (io.Reader, error) {
	if n < 0 || n > d.Rest() {
		return nil, d.damaged(d.pos, "%s of data are cut off", humanBytes(n))
	}
	return io.LimitReader(reading{d}, n), nil
}

// Skip passes over the n bytes behind the last entry: ReadAt reads them later.
func (d *Decoder) Skip(n int64) error {
	if n < 0 || n > d.Rest() {
		return d.damaged(d.pos, "%s of data are cut off", humanBytes(n))
	}
	d.pos += n
	return nil
}

type reading struct{ d *Decoder }

func (r reading) Read(p []byte) (int, error) {
	if r.d.Rest() == 0 {
		return 0, io.EOF
	}
	b, err := r.d.at(r.d.pos)
	if err != nil {
		return 0, err
	}
	n := copy(p, b)
	r.d.pos += int64(n)
	if r.d.count != nil {
		r.d.count(n)
	}
	return n, nil
}

// read fills p. Preconditions: Rest is at least its length.
func (d *Decoder) read(p []byte) error {
	for len(p) > 0 {
		b, err := d.at(d.pos)
		if err != nil {
			return err
		}
		n := copy(p, b)
		p, d.pos = p[n:], d.pos+int64(n)
	}
	return nil
}

// atEnd turns an early end into what is missing.
func (d *Decoder) atEnd(err error, what string) error {
	if errors.Is(err, io.EOF) {
		return d.damaged(d.pos, "%s", what)
	}
	return err
}

func (d *Decoder) unlessEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
