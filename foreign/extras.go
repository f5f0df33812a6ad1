package foreign

import (
	"cmp"
	"maps"
	"slices"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/memfd"

	"ckpt/image"
)

// extras gives files.img, and ckpt-files.img: what CRIU keeps of a file in
// other places than its entry there.
func (t *translation) extras() error {
	all := slices.SortedFunc(maps.Values(t.entries), func(a, b *fdinfo.FileEntry) int { return cmp.Compare(a.GetId(), b.GetId()) })
	if err := put(t, image.Files, "", all...); err != nil {
		return err
	}
	inodes, err := t.memfds()
	if err != nil {
		return err
	}
	var out []*image.FileExtra
	for id, e := range t.entries {
		if i := inodes[uint64(e.GetMemfd().GetInodeId())]; e.GetMemfd() != nil && i != nil {
			out = append(out, &image.FileExtra{Id: id, Inode: i})
		}
	}
	slices.SortFunc(out, func(a, b *image.FileExtra) int { return cmp.Compare(a.Id, b.Id) })
	return put(t, image.FilesExtra, "", out...)
}

// memfds are owner and permissions of each, by inode_id, where criu tells them
// (since 4.0).
func (t *translation) memfds() (map[uint64]*image.Inode, error) {
	all, err := each[*memfd.MemfdInodeEntry](t.r, image.MemfdInode, "")
	out := map[uint64]*image.Inode{}
	for _, e := range all {
		if mode := numbers(e, fieldMemfdMode); len(mode) > 0 {
			out[e.GetInodeId()] = &image.Inode{Mode: uint32(mode[0]), Uid: e.GetUid(), Gid: e.GetGid()}
		}
	}
	return out, err
}
