package image

import (
	"bytes"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"
)

// Translate lets an image of criu's be read as one of ckpt's: m is the manifest
// that it lacks, and files, by name, are read in the place of those of the same
// name, or beside them. It is called once, before anything else reads.
func (r *Reader) Translate(m *Manifest, files map[string][]byte) {
	r.manifest, r.translated = m, files
	for name, b := range files {
		r.sizes[name] = int64(len(b))
	}
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
