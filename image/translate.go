package image

import (
	"bytes"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"
)

// Translation is what makes an image of criu's one of ckpt's.
type Translation struct {
	Manifest *Manifest
	Files    map[string][]byte // by name; in the place of the image's of that name, or beside them
	Names    map[string]string // of files of the image by the names that ckpt has for them
}

// Translate lets an image of criu's be read as one of ckpt's. It is called once,
// before anything else reads.
func (r *Reader) Translate(t Translation) {
	r.manifest, r.translated, r.names = t.Manifest, t.Files, t.Names
	sizes := maps.Clone(r.sizes)
	for name, from := range t.Names {
		sizes[name] = r.sizes[from]
	}
	for name, b := range t.Files {
		sizes[name] = int64(len(b))
	}
	r.sizes = sizes
}

// Checksums tells whether the image has any: one of criu's has none, and Verify
// refuses it.
func (r *Reader) Checksums() bool { return r.sums != nil }

// Names are those of all files, in order.
func (r *Reader) Names() []string { return slices.Sorted(maps.Keys(r.sizes)) }

// Encode is a file of format f that holds entries.
func Encode[M proto.Message](f Format, entries ...M) ([]byte, error) {
	b := f.header()
	for _, m := range entries {
		var err error
		if b, err = AppendEntry(b, m); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// decodeTranslated is Decode of a file that Translate has given; nil: it has not.
func (r *Reader) decodeTranslated(name string) *Decoder {
	b, ok := r.translated[name]
	if !ok {
		return nil
	}
	return newDecoder(name, bytes.NewReader(b), int64(len(b)), nil)
}
