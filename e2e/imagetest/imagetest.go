// Package imagetest takes images apart and puts them together again, for tests:
// what it writes is whole by every checksum, whatever stands in it.
package imagetest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"filippo.io/age"
	"google.golang.org/protobuf/proto"

	"ckpt/image"
)

// Image is a directory, taken apart.
type Image struct {
	// Files are those of the directory, and of the levels in it, by their names before
	// they are encrypted: "core-2.img", "same-1/pagemap-3.img".
	Files map[string]*File
	links map[string]string // where those in it lead
	key   *age.X25519Identity
}

// File is one of its files. One that is not made of entries (pages) stays where it
// is, and From tells where, unless there are Contents.
type File struct {
	Header   []byte
	Entries  []Entry
	From     string // "": it is made of entries
	Contents []byte // instead of those of From; nil: there are none
}

// Entry is a message, and the bytes behind it.
type Entry struct {
	Message proto.Message
	Data    []byte
}

// Manifest is the name of the file that has the checksums of all others, signature
// that of the one that it has none of.
const (
	Manifest  = "ckpt.img"
	signature = "ckpt-signature.img"
)

// aged is what the name of an encrypted file ends with, behind its own.
const aged = ".age"

// chunk is what one checksum covers, in bytes.
const chunk = 4 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Read takes an image apart. It must be a good one.
func Read(dir string) (*Image, error) { return ReadEncrypted(dir, nil) }

// ReadEncrypted is Read of one that key opens; nil: it is not encrypted.
func ReadEncrypted(dir string, key *age.X25519Identity) (*Image, error) {
	out := &Image{Files: map[string]*File{}, links: map[string]string{}, key: key}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if e.Type() == fs.ModeSymlink {
			out.links[name], err = os.Readlink(path)
			return err
		}
		f, err := out.readFile(path)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		out.Files[strings.TrimSuffix(name, aged)] = f
		return nil
	})
	if err != nil {
		return nil, err
	}
	if out.Files[Manifest] == nil || len(out.Files[Manifest].Entries) != 2 {
		return nil, errors.New("no manifest")
	}
	return out, nil
}

// contents are those of a file, decrypted.
func (i *Image) contents(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil || !strings.HasSuffix(path, aged) {
		return b, err
	}
	plain, err := age.Decrypt(bytes.NewReader(b), i.key)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(plain)
}

func (i *Image) readFile(path string) (*File, error) {
	s, ok := sortOf(strings.TrimSuffix(filepath.Base(path), aged))
	if !ok || filepath.Base(path) == signature {
		return &File{From: path}, nil
	}
	b, err := i.contents(path)
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
	out := &Image{Files: map[string]*File{}, links: maps.Clone(i.links), key: i.key}
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

// After has an image be one that was made after that in a directory beside it.
func (i *Image) After(parent string) error {
	name := Manifest
	if i.key != nil {
		name += aged
	}
	b, err := os.ReadFile(filepath.Join(parent, name))
	if err != nil {
		return err
	}
	m, sum, to := i.Manifest(), sha256.Sum256(b), "../"+filepath.Base(parent)
	m.Parent = &image.Ancestor{Path: to, Sha256: sum[:]}
	if m.Levels == 0 {
		i.links["parent"] = to
	} else {
		i.links[fmt.Sprintf("same-%d/parent", m.Levels)] = "../" + to
	}
	return nil
}

// Write puts the image together in dir, which must not exist, with checksums that
// fit, and encrypted if it was. Files without entries are links (link(2)) to those it
// was read from. A signature does not fit any more.
func (i *Image) Write(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	m := proto.Clone(i.Manifest()).(*image.Manifest)
	m.Sums = nil
	for _, name := range slices.Sorted(maps.Keys(i.Files)) {
		if name == Manifest {
			continue
		}
		sum, err := i.write(dir, name)
		if err != nil {
			return err
		}
		if name != signature {
			m.Sums = append(m.Sums, sum)
		}
	}
	for name, to := range i.links {
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700), os.Symlink(to, filepath.Join(dir, name))); err != nil {
			return err
		}
	}
	_, err := i.put(dir, Manifest, seal(i.Files[Manifest].Header, m))
	return err
}

// seal is the manifest with its own checksum behind it.
func seal(header []byte, m *image.Manifest) []byte {
	b := appendEntry(slices.Clone(header), Entry{Message: m})
	return appendEntry(b, Entry{Message: &image.Seal{Crc32C: crc32.Checksum(b, castagnoli)}})
}

// write stores a file, and gives its sums.
func (i *Image) write(dir, name string) (*image.FileSum, error) {
	f := i.Files[name]
	if f.From == "" || f.Contents != nil {
		return i.put(dir, name, f.bytes())
	}
	if strings.HasSuffix(f.From, aged) {
		name += aged
	}
	b, err := os.ReadFile(f.From)
	if err != nil {
		return nil, err
	}
	return sum(name, b), os.Link(f.From, filepath.Join(dir, name))
}

func (i *Image) put(dir, name string, b []byte) (*image.FileSum, error) {
	if i.key != nil && name != signature {
		var out bytes.Buffer
		sealed, err := age.Encrypt(&out, i.key.Recipient())
		if err == nil {
			_, err = sealed.Write(b)
		}
		if err == nil {
			err = sealed.Close()
		}
		if err != nil {
			return nil, err
		}
		name, b = name+aged, out.Bytes()
	}
	path := filepath.Join(dir, name)
	return sum(name, b), errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, b, 0o600))
}

func sum(name string, b []byte) *image.FileSum {
	s := &image.FileSum{Name: name, Size: uint64(len(b))}
	for part := range slices.Chunk(b, chunk) {
		s.Crc32C = append(s.Crc32C, crc32.Checksum(part, castagnoli))
	}
	return s
}

func (f *File) bytes() []byte {
	if f.Contents != nil {
		return f.Contents
	}
	b := slices.Clone(f.Header)
	for _, e := range f.Entries {
		b = appendEntry(b, e)
	}
	return b
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

// Reseal makes the checksums of a plain image without levels fit to what its files
// are now.
func Reseal(dir string) error {
	f, err := new(Image).readFile(filepath.Join(dir, Manifest))
	if err != nil {
		return err
	}
	m := f.Entries[0].Message.(*image.Manifest)
	ents, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	m.Sums = nil
	for _, e := range ents {
		if e.Name() == Manifest || !strings.HasSuffix(e.Name(), ".img") || !e.Type().IsRegular() {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		m.Sums = append(m.Sums, sum(e.Name(), b))
	}
	return os.WriteFile(filepath.Join(dir, Manifest), seal(f.Header, m), 0o600)
}
