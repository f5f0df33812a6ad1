package foreign

import (
	"maps"
	"slices"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/remap-file-path"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
)

// remaps gives the list of files whose name is gone. One that had another name
// when it was dumped (criu dump --link-remap has made one, if it was not found) is
// opened by that.
func (t *translation) remaps() error {
	all, err := each[*remap_file_path.RemapFilePathEntry](t.r, image.RemapFpath, "")
	if err != nil || len(all) == 0 {
		return err
	}
	copies := map[uint32][]uint32{}
	for _, id := range slices.Sorted(maps.Keys(t.copies)) {
		copies[t.copies[id]] = append(copies[t.copies[id]], id)
	}
	var out []*remap_file_path.RemapFilePathEntry
	for _, e := range all {
		for _, id := range append([]uint32{e.GetOrigId()}, copies[e.GetOrigId()]...) {
			if e.GetRemapType() == remap_file_path.RemapType_LINKED {
				if err := t.rename(id, e.GetRemapId()); err != nil {
					return err
				}
				continue
			}
			c := proto.CloneOf(e)
			c.OrigId = proto.Uint32(id)
			out = append(out, c)
		}
	}
	return put(t, image.RemapFpath, "", out...)
}

// rename lets a file be found by the name of another one of files.img.
func (t *translation) rename(id, as uint32) error {
	file, other := t.entries[id].GetReg(), t.entries[as].GetReg()
	if file == nil || other == nil {
		return failure.Damagedf("remap-fpath.img: file %d has the name of file %d, and one of them is not in files.img", id, as)
	}
	file.Name = proto.String(other.GetName())
	return nil
}
