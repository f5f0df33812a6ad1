// Package image is the directory on disk: CRIU's files, and beside them
// ckpt's own. It knows formats and no kind.
package image

import "google.golang.org/protobuf/proto"

// Format is one sort of image file: its name without ".img" and its magic.
type Format struct {
	Prefix string
	Magic  uint32
}

// Writer writes an image into DIR.partial.
type Writer struct{}

// Add appends an entry to the file of format f; id tells apart the files of a
// format that has one a process or object ("core-12.img"), "" where there is
// only one. data, if any, follows the entry raw (pipes-data, sk-queues).
func (w *Writer) Add(f Format, id string, m proto.Message, data ...[]byte) error {
	panic("image: being written")
}

// Reader reads an image directory.
type Reader struct{}

// Each calls fn for every entry of a file; fn may read the raw data behind
// the entry with data(n). A file that does not exist has no entries.
func Each[M proto.Message](r *Reader, f Format, id string, fn func(m M, data func(n int) ([]byte, error)) error) error {
	panic("image: being written")
}
