package foreign

import (
	"cmp"
	"maps"
	"slices"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/memfd"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/tty"
	"golang.org/x/sys/unix"

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
	nodes, err := t.nodes()
	if err != nil {
		return err
	}
	out := slices.Collect(maps.Values(t.pidfds))
	for id, e := range t.entries {
		if n := nodes[e.GetTty().GetTtyInfoId()]; e.GetTty() != nil && n != nil {
			out = append(out, &image.FileExtra{Id: id, Inode: n})
		}
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

// nodes are owner and permissions of /dev/pts/N, by the tty_info_id of the master.
// CRIU keeps the owner: another group than root's is there to write to it (mesg(1)).
func (t *translation) nodes() (map[uint32]*image.Inode, error) {
	all, err := each[*tty.TtyInfoEntry](t.r, image.TTYInfo, "")
	out := map[uint32]*image.Inode{}
	for _, e := range all {
		if unix.Major(uint64(e.GetRdev())) != masterMajor {
			continue
		}
		n := &image.Inode{Mode: unix.S_IFCHR | 0o600, Uid: e.GetUid(), Gid: e.GetGid()}
		if n.Gid != 0 {
			n.Mode |= 0o20
		}
		out[e.GetId()] = n
	}
	return out, err
}
