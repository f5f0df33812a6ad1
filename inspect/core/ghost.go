package core

import (
	"cmp"
	"errors"
	"io"
	"math"
	"slices"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/ghost-file"

	"ckpt/failure"
	"ckpt/image"
)

// ghosts are the deleted files that the image has the contents of. One of them is
// open at a time.
type ghosts struct {
	in *image.Reader
	of map[uint32]uint64 // id of ghost-file-ID.img, by that in files.img
	last[*image.Decoder]
}

func (g *ghosts) open(id uint64) (*image.Decoder, error) {
	return g.get(id, func() (*image.Decoder, error) {
		name := image.GhostFile.ID(id)
		d, err := g.in.Decode(image.GhostFile, name)
		if err == nil && d == nil {
			err = failure.Damagedf("%s is missing", image.GhostFile.Name(name))
		}
		return d, err
	})
}

// ghost is one of them.
type ghost struct {
	in      *ghosts
	id      uint64
	size    uint64
	extents []extent // in order of their offsets
}

// extent is a piece of a deleted file that is not a hole.
type extent struct {
	off, n uint64
	at     int64 // in ghost-file-ID.img
}

// describe finds where the contents of a deleted file are.
func (g *ghosts) describe(id uint64) (*ghost, error) {
	g.close() // a decoder reads from front to back
	d, err := g.open(id)
	if err != nil {
		return nil, err
	}
	var e ghost_file.GhostFileEntry
	if err := d.Next(&e); err != nil {
		if errors.Is(err, io.EOF) {
			err = failure.Damagedf("%s has no entry", image.GhostFile.Name(image.GhostFile.ID(id)))
		}
		return nil, err
	}
	out := &ghost{in: g, id: id, size: e.GetSize()}
	if !e.GetChunks() { // as older versions of CRIU have it
		out.size = uint64(d.Rest())
		out.extents = []extent{{0, out.size, d.Offset()}}
		return out, nil
	}
	for {
		var c ghost_file.GhostChunkEntry
		switch err := d.Next(&c); {
		case errors.Is(err, io.EOF):
			slices.SortFunc(out.extents, func(a, b extent) int { return cmp.Compare(a.off, b.off) })
			return out, nil
		case err != nil:
			return nil, err
		}
		if c.GetLen() > math.MaxInt64 || c.GetOff() > out.size || c.GetLen() > out.size-c.GetOff() {
			return nil, failure.Damagedf("%d bytes at %d in a deleted file of %d", c.GetLen(), c.GetOff(), out.size)
		}
		out.extents = append(out.extents, extent{c.GetOff(), c.GetLen(), d.Offset()})
		if err := d.Skip(int64(c.GetLen())); err != nil {
			return nil, err
		}
	}
}

// ReadAt reads a piece of the file, holes as zeros.
func (f *ghost) ReadAt(b []byte, off int64) (int, error) {
	clear(b)
	end := uint64(off) + uint64(len(b))
	for _, x := range f.extents {
		from, to := max(x.off, uint64(off)), min(x.off+x.n, end)
		if from >= to {
			continue
		}
		d, err := f.in.open(f.id)
		if err != nil {
			return 0, err
		}
		if _, err := d.ReadAt(b[from-uint64(off):to-uint64(off)], x.at+int64(from-x.off)); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

// spans are a piece of the file, within its size.
func (f *ghost) spans(off, n uint64) (out []span) {
	at, end := off, off+n
	for _, x := range f.extents {
		from, to := max(x.off, at), min(x.off+x.n, end)
		if from >= to {
			continue
		}
		if from > at {
			out = append(out, span{part{size: from - at}, true})
		}
		out = append(out, span{part{to - from, f, int64(from)}, true})
		at = to
	}
	if at < end {
		out = append(out, span{part{size: end - at}, true})
	}
	return out
}
