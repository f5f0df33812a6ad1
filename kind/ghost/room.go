package ghost

import (
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
)

// Fits tells whether there is room for the contents of entry regID, which was found
// as path, where it will be made, beside those asked for before. That a directory is
// missing, or full by then, shows when the file is made. It is for checks.
func (x *Restorer) Fits(r *kind.Restore, regID uint32, path string) error {
	id, ok := x.of[regID]
	if !ok || x.asked[id] {
		return nil
	}
	d, err := r.In.Decode(image.GhostFile, image.GhostFile.ID(uint64(id)))
	if err != nil || d == nil {
		return err
	}
	size := uint64(d.Rest()) // with a few bytes that are not of the file
	d.Close()
	dir := filepath.Dir(filepath.Clean("/" + path))
	var fs unix.Statfs_t
	var st unix.Stat_t
	if unix.Statfs(dir, &fs) != nil || unix.Stat(dir, &st) != nil {
		return nil
	}
	if x.asked == nil {
		x.asked, x.need = map[uint32]bool{}, map[uint64]uint64{}
	}
	x.asked[id] = true
	x.need[st.Dev] += size
	if free := fs.Bavail * uint64(fs.Bsize); x.need[st.Dev] > free {
		return failure.WithHint(fmt.Errorf("%s was deleted, and its %d bytes have to be written to %s again, where with the others %d are needed and %d are free", path, size, dir, x.need[st.Dev], free),
			"make room in "+failure.Quote(dir))
	}
	return nil
}
