// Package imagetest takes images apart and puts them together again, for tests:
// what it writes is whole by every checksum, whatever stands in it.
package imagetest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"ckpt/image"
)

// Image is a directory, taken apart.
type Image struct {
	Files map[string]*File
	// more are the other directories and links in it, of pages that processes have in
	// common: they stay as they are.
	dir  string
	more []string
}

// File is one of its files. One that is not made of entries (pages) has no Path
// to them: it stays where it is, and From tells where.
type File struct {
	Header  []byte
	Entries []Entry
	From    string // "": it is made of entries
}

// Entry is a message, and the bytes behind it.
type Entry struct {
	Message proto.Message
	Data    []byte
}

// Manifest is the name of the file that has the checksums of all others.
const Manifest = "ckpt.img"

// chunk is what one checksum covers, in bytes.
const chunk = 4 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Read takes an image apart. It must be a good one.
func Read(dir string) (*Image, error) {
	ents, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	out := &Image{Files: map[string]*File{}, dir: dir}
	for _, e := range ents {
		if !e.Type().IsRegular() {
			out.more = append(out.more, e.Name())
			continue
		}
		f, err := readFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.Name(), err)
		}
		out.Files[e.Name()] = f
	}
	if out.Files[Manifest] == nil || len(out.Files[Manifest].Entries) != 2 {
		return nil, errors.New("no manifest")
	}
	return out, nil
}

func readFile(path string) (*File, error) {
	s, ok := sortOf(filepath.Base(path))
	if !ok {
		return &File{From: path}, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	n := 8
	if s.prefix == "inventory" {
		n = 4
	}
	f := &File{Header: b[:n]}
	for b = b[n:]; len(b) > 0; {
		m, length := s.next(f.Entries), int(binary.LittleEndian.Uint32(b))
		if err := proto.Unmarshal(b[4:4+length], m); err != nil {
			return nil, err
		}
		b = b[4+length:]
		data := min(s.data(m), len(b))
		f.Entries = append(f.Entries, Entry{m, b[:data:data]})
		b = b[data:]
	}
	return f, nil
}

// Clone is a copy of an image, whose entries can be changed.
func (i *Image) Clone() *Image {
	out := &Image{Files: map[string]*File{}, dir: i.dir, more: i.more}
	for name, f := range i.Files {
		c := *f
		c.Entries = nil
		for _, e := range f.Entries {
			c.Entries = append(c.Entries, Entry{proto.Clone(e.Message), e.Data})
		}
		out.Files[name] = &c
	}
	return out
}

// Manifest is what ckpt.img says.
func (i *Image) Manifest() *image.Manifest {
	return i.Files[Manifest].Entries[0].Message.(*image.Manifest)
}

// Write puts the image together in dir, which must not exist, with checksums
// that fit. Files without entries are links (link(2)) to those it was read from.
func (i *Image) Write(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	for _, name := range i.more {
		if err := copyOther(filepath.Join(i.dir, name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	m := proto.Clone(i.Manifest()).(*image.Manifest)
	m.Sums = slices.DeleteFunc(m.Sums, atTop)
	for _, name := range slices.Sorted(maps.Keys(i.Files)) {
		if name == Manifest {
			continue
		}
		sum, err := i.Files[name].write(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		sum.Name = name
		m.Sums = append(m.Sums, sum)
	}
	return os.WriteFile(filepath.Join(dir, Manifest), seal(i.Files[Manifest].Header, m), 0o600)
}

// atTop tells whether a file is none of a directory within the image.
func atTop(s *image.FileSum) bool { return !strings.Contains(s.Name, "/") }

// copyOther copies a directory, or a link.
func copyOther(from, to string) error {
	if target, err := os.Readlink(from); err == nil {
		return os.Symlink(target, to)
	}
	return os.CopyFS(to, os.DirFS(from))
}

// seal is the manifest with its own checksum behind it.
func seal(header []byte, m *image.Manifest) []byte {
	b := appendEntry(slices.Clone(header), Entry{Message: m})
	return appendEntry(b, Entry{Message: &image.Seal{Crc32C: crc32.Checksum(b, castagnoli)}})
}

func (f *File) write(path string) (*image.FileSum, error) {
	b, err := f.bytes()
	if err != nil {
		return nil, err
	}
	if f.From != "" {
		err = os.Link(f.From, path)
	} else {
		err = os.WriteFile(path, b, 0o600)
	}
	sum := &image.FileSum{Size: uint64(len(b))}
	for part := range slices.Chunk(b, chunk) {
		sum.Crc32C = append(sum.Crc32C, crc32.Checksum(part, castagnoli))
	}
	return sum, err
}

func (f *File) bytes() ([]byte, error) {
	if f.From != "" {
		return os.ReadFile(f.From)
	}
	b := slices.Clone(f.Header)
	for _, e := range f.Entries {
		b = appendEntry(b, e)
	}
	return b, nil
}

// appendEntry encodes an entry. Required fields may be missing in it.
func appendEntry(b []byte, e Entry) []byte {
	m, err := proto.MarshalOptions{AllowPartial: true, Deterministic: true}.Marshal(e.Message)
	if err != nil {
		m = []byte{0xff} // what cannot be encoded (a string that is no UTF-8) decodes neither
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(len(m)))
	return append(append(b, m...), e.Data...)
}

// Reseal makes the checksums of an image fit to what its files are now.
func Reseal(dir string) error {
	f, err := readFile(filepath.Join(dir, Manifest))
	if err != nil {
		return err
	}
	m := f.Entries[0].Message.(*image.Manifest)
	ents, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	m.Sums = slices.DeleteFunc(m.Sums, atTop)
	for _, e := range ents {
		if e.Name() == Manifest || !strings.HasSuffix(e.Name(), ".img") || !e.Type().IsRegular() {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		sum := &image.FileSum{Name: e.Name(), Size: uint64(len(b))}
		for part := range slices.Chunk(b, chunk) {
			sum.Crc32C = append(sum.Crc32C, crc32.Checksum(part, castagnoli))
		}
		m.Sums = append(m.Sums, sum)
	}
	return os.WriteFile(filepath.Join(dir, Manifest), seal(f.Header, m), 0o600)
}
