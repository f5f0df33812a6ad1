package creds

import (
	"os"

	"golang.org/x/sys/unix"

	"ckpt/image"
	"ckpt/kind"
	"ckpt/procfs"
)

// check is reach before there is a container, by the ids that one made here
// would have.
func check(_ *kind.Restore, t *kind.Target, tt *kind.TargetThread) error {
	if tt.Core.GetThreadCore().GetCreds() == nil || t.IDs.GetUserNsId() > image.NamespaceID {
		return nil
	}
	m, err := expected()
	if err != nil {
		return err
	}
	return m.reach(wanted(tt), m.identity())
}

// expected is what learn would find.
func expected() (*maker, error) {
	p, err := procfs.Open(os.Getpid())
	if err != nil {
		return nil, err
	}
	defer p.Close()
	st, err := p.Status()
	if err != nil {
		return nil, err
	}
	m := &maker{bare: *st}
	if st.CapEff&(1<<unix.CAP_SYS_ADMIN) == 0 { // a user namespace of his own, with his own ids
		m.uids = procfs.IDMaps{{Inside: st.Uid[1], Outside: st.Uid[1], Count: 1}}
		m.gids = procfs.IDMaps{{Inside: st.Gid[1], Outside: st.Gid[1], Count: 1}}
		return m, nil
	}
	if m.uids, err = p.UIDMap(); err == nil {
		m.gids, err = p.GIDMap()
	}
	return m, err
}
