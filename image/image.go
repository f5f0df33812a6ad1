// Package image is the directory on disk: CRIU's files, and beside them
// ckpt's own. It knows formats and no kind. docs/image-format.md describes
// every file.
//
// A file is a header (its magic), then entries: a length of four bytes, a
// protobuf message, and for some formats raw data that belongs to the entry.
// All numbers outside the messages are little endian.
//
// Sum rule: every file but the manifest has a CRC32C for each chunk of 4 MiB
// in the manifest; entries are handed out only from chunks whose sum was
// right. The pages of processes are checked by Verify alone, since a restore
// maps or copies them without reading them here.
package image

import (
	"fmt"
	"strconv"
	"strings"
)

// Version of ckpt's own files. An image of a greater version is refused.
const Version = 1

// PageSize is the unit of pagemap entries, in bytes.
const PageSize = 4096

// Headers (CRIU's magic.h). inventory.img has only its own magic; every other
// file has one of these in front of it.
const (
	magicCommon  uint32 = 0x54564319
	magicService uint32 = 0x55105940
)

// Format is one sort of image file: its name without ".img" and its magic.
type Format struct {
	Prefix string
	Magic  uint32
}

// ID writes a number the way the names of files of f hold it: hexadecimal in
// ghost-file-%x.img and tcp-stream-%x.img, decimal in all others.
func (f Format) ID(n uint64) string {
	if f == GhostFile || f == TCPStream {
		return strconv.FormatUint(n, 16)
	}
	return strconv.FormatUint(n, 10)
}

// Name is the name of the file of format f for id ("" where there is only one).
func (f Format) Name(id string) string {
	if id == "" {
		return f.Prefix + suffix
	}
	return f.Prefix + "-" + id + suffix
}

const suffix = ".img"

// header is what a file of format f begins with.
func (f Format) header() []byte {
	if f == Inventory {
		return le32(nil, f.Magic)
	}
	return le32(le32(nil, magicCommon), f.Magic)
}

func pagesName(pagesID uint32) string { return fmt.Sprintf("pages-%d%s", pagesID, suffix) }

// checkName refuses what would lead out of the directory.
func checkName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > 255 || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("%q is no name for a file of an image", name)
	}
	return nil
}

func le32(b []byte, v uint32) []byte {
	return append(b, byte(v), byte(v>>8), byte(v>>16), byte(v>>24))
}
