package creds

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/procfs"
	"ckpt/tracee"
)

// maker remembers who the bare children are. All are clones of one another
// and of the container's init, so one look is enough, but for those in a user
// namespace made inside.
type maker struct {
	known  bool
	bare   procfs.Status
	bits   uint32        // their securebits
	uids   procfs.IDMaps // the container's uid_map
	gids   procfs.IDMaps // and gid_map
	denied bool          // setgroups(2) is denied to the container
	outer  []uint32      // Restore.Groups
	own    uint64        // inode of ckpt's user namespace, and the container's
	told   bool          // of what no process can get
}

func (m *maker) learn(r *kind.Restore, host pidns.HostPID) error {
	if m.known {
		return nil
	}
	p, err := procfs.OpenAt(r.HostProc, host.String())
	if err != nil {
		return err
	}
	defer p.Close()
	st, err := p.Status()
	if err != nil {
		return err
	}
	m.bare = *st
	if m.uids, err = p.UIDMap(); err != nil {
		return err
	}
	if m.gids, err = p.GIDMap(); err != nil {
		return err
	}
	if m.denied, err = groupsDenied(p); err != nil {
		return err
	}
	// Inherited from here (credentials(7)).
	bits, err := unix.PrctlRetInt(unix.PR_GET_SECUREBITS, 0, 0, 0, 0)
	if err != nil {
		return fmt.Errorf("read securebits: %w", err)
	}
	var own unix.Stat_t
	if err := unix.Fstatat(int(r.HostProc.Fd()), "thread-self/ns/user", &own, 0); err != nil {
		return fmt.Errorf("look at ckpt's user namespace: %w", err)
	}
	m.own, m.bits, m.outer, m.known = own.Ino, uint32(bits), r.Groups, true
	return nil
}

func groupsDenied(p *procfs.Proc) (bool, error) {
	b, err := p.Read("setgroups")
	return strings.TrimSpace(string(b)) == "deny", err
}

// leave gives a bare child what it cannot be given in the user namespace made
// inside that it is about to enter for t: groups, and ids without a number there.
func (m *maker) leave(r *kind.Restore, t *kind.Target, s *tracee.Script) error {
	host, _ := r.HostPID(pidns.Init)
	if err := m.learn(r, host); err != nil {
		return fmt.Errorf("look at the bare children's credentials: %w", err)
	}
	want, have := wanted(t.Threads[0]), m.identity()
	groups, err := m.groups(want.groups)
	if err != nil {
		return err
	}
	if groups {
		setGroups(s, want.groups)
	}
	lost := func(gids bool) func(uint32) bool {
		return func(id uint32) bool {
			_, ok := image.UserNumber(r.Manifest.GetUserNamespaces(), t.IDs.GetUserNsId(), gids, id)
			return !ok
		}
	}
	if !slices.ContainsFunc(want.uid[:], lost(false)) {
		want.uid = have.uid
	}
	if !slices.ContainsFunc(want.gid[:], lost(true)) {
		want.gid = have.gid
	}
	if have.uid == want.uid && have.gid == want.gid {
		return nil
	}
	become(s, have, want)
	return nil
}

// arrive makes a bare child in a user namespace made inside the user that it
// will be: unlike the others, it has no rights over what is the container's
// (System V segments, say), and what it makes belongs to it.
func (m *maker) arrive(r *kind.Restore, t *kind.Target, s *tracee.Script) error {
	if err := m.learn(r, t.Host); err != nil {
		return fmt.Errorf("look at the bare child's credentials: %w", err)
	}
	f, err := m.far(r, t, t.Threads[0])
	if f == nil || err != nil {
		return err
	}
	want := wanted(t.Threads[0])
	have, groups, err := f.translate(&want)
	if err != nil {
		return err
	}
	if groups {
		setGroups(s, want.groups)
	}
	if have.uid != want.uid || have.gid != want.gid {
		become(s, have, want)
		prctl(s, "set dumpable", unix.PR_SET_DUMPABLE, 1)
	}
	return nil
}

// become changes the ids and keeps the capabilities.
func become(s *tracee.Script, have, want identity) {
	prctl(s, "keep capabilities", unix.PR_SET_KEEPCAPS, 1)
	setIDs(s, have, want)
	capset(s, "raise capabilities", have.prm, have.prm, have.inh)
	prctl(s, "keep capabilities no more", unix.PR_SET_KEEPCAPS, 0)
}

// wanted are the credentials of the image.
func wanted(tt *kind.TargetThread) identity {
	e := tt.Core.GetThreadCore().GetCreds()
	return identity{
		uid:    [4]uint32{e.GetUid(), e.GetEuid(), e.GetSuid(), e.GetFsuid()},
		gid:    [4]uint32{e.GetGid(), e.GetEgid(), e.GetSgid(), e.GetFsgid()},
		groups: e.GetGroups(), inh: join(e.GetCapInh()), prm: join(e.GetCapPrm()), eff: join(e.GetCapEff()), bnd: join(e.GetCapBnd()),
		amb: tt.Extra.GetCapAmb(), bits: e.GetSecbits(), noNewPrivs: tt.Extra.GetNoNewPrivs(),
	}
}

func (m *maker) restore(r *kind.Restore, t *kind.Target, tt *kind.TargetThread) error {
	if tt.Core.GetThreadCore().GetCreds() == nil {
		return failure.Damagedf("thread %d has no credentials", tt.VTID)
	}
	if err := m.learn(r, t.Host); err != nil {
		return fmt.Errorf("look at the bare child's credentials: %w", err)
	}
	want, have := wanted(tt), m.identity()
	groups, err := false, error(nil)
	if far, ferr := m.far(r, t, tt); ferr != nil {
		return fmt.Errorf("look at the bare child's credentials: %w", ferr)
	} else if far != nil {
		have, groups, err = far.translate(&want)
	} else if err = m.reach(want, have); err == nil {
		groups, err = m.groups(want.groups)
	}
	if err != nil {
		return err
	}
	if lost := want.bnd &^ have.bnd; lost != 0 && !m.told {
		m.told = true
		r.Log.Info("capabilities out of reach of every process: ckpt does not have them here", "capabilities", names(lost))
	}
	if missing := want.cut(have); missing != 0 {
		r.Log.Warn("capabilities not given: ckpt does not have them here", "vpid", t.VPID, "thread", tt.VTID, "capabilities", names(missing))
	}
	if have.noNewPrivs && !want.noNewPrivs {
		r.Log.Warn("no_new_privs stays set: ckpt itself runs with it", "vpid", t.VPID, "thread", tt.VTID)
	}
	change(tt.Script, have, want, groups)
	if sig := tt.Core.GetThreadCore().GetPdeathSig(); sig != 0 {
		// After the ids: changing them clears it (commit_creds()).
		tt.Script.Note(tt.Script.Must(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uint64(sig), 0, 0, 0), "set the parent-death signal")
	}
	return nil
}

// restoreDead: images from before have none, and criu's.
func (m *maker) restoreDead(r *kind.Restore, t *kind.Target, tt *kind.TargetThread) error {
	if tt.Core.GetThreadCore().GetCreds() == nil {
		return nil
	}
	if err := m.restore(r, t, tt); err != nil {
		return err
	}
	if t.Zombie {
		// Nobody sees that one was not; and a bare child whose ids or
		// capabilities changed is not.
		prctl(tt.Script, "set dumpable", unix.PR_SET_DUMPABLE, 1)
	}
	return nil
}

func (m *maker) identity() identity {
	b := &m.bare
	return identity{uid: b.Uid, gid: b.Gid, groups: b.Groups, inh: b.CapInh, prm: b.CapPrm, eff: b.CapEff, bnd: b.CapBnd, amb: b.CapAmb,
		bits: m.bits, noNewPrivs: b.NoNewPrivs}
}

// reach refuses ids that no process of the container can have: a container of
// an ordinary user has his own only.
func (m *maker) reach(want, have identity) error {
	for i := range want.uid {
		_, uid := m.uids.Outside(want.uid[i])
		_, gid := m.gids.Outside(want.gid[i])
		if (uid || want.uid[i] == have.uid[i]) && (gid || want.gid[i] == have.gid[i]) {
			continue
		}
		hint := "restore as root"
		if want.uid[i] != 0 {
			hint = fmt.Sprintf("restore as user %d, or as root", want.uid[i])
		}
		return failure.WithHint(failure.Unsupportedf("it runs as user %d, group %d, and user %d, group %d, can bring back only what runs as himself",
			want.uid[i], want.gid[i], have.uid[0], have.gid[0]), hint)
	}
	return nil
}

// groups tells whether setgroups(2) is needed. Groups without a number inside
// are not the container's to choose: a process keeps those of whoever restores.
// Where the numbers that those have outside are known, as of a process that
// was no container's, they must be what they were.
func (m *maker) groups(want []uint32) (needed bool, err error) {
	inside := func(g uint32) bool {
		_, ok := m.gids.Outside(g)
		return ok
	}
	unmapped := func(g uint32) bool { return g == overflow && !inside(overflow) }
	a, b := slices.DeleteFunc(slices.Clone(want), unmapped), slices.DeleteFunc(slices.Clone(m.bare.Groups), unmapped)
	if m.denied {
		slices.Sort(a)
		theirs, ours := slices.DeleteFunc(slices.Clone(a), inside), slices.DeleteFunc(slices.Clone(m.outer), inside)
		if slices.Sort(ours); slices.Equal(theirs, slices.Compact(ours)) {
			a = slices.DeleteFunc(a, func(g uint32) bool { return !inside(g) })
		}
	}
	slices.Sort(a)
	slices.Sort(b)
	switch {
	case slices.Equal(slices.Compact(a), slices.Compact(b)): // what has no number reads as nobody's, who may be the user
		return false, nil
	case m.denied:
		return false, failure.WithHint(failure.Unsupportedf("it is in the groups %v, and an ordinary user may not choose groups", a),
			"restore as root")
	}
	return true, nil
}

// names are the capabilities of a set, as capabilities(7) calls them.
func names(set uint64) string {
	var out []string
	for i := range 64 {
		if set>>i&1 == 0 {
			continue
		}
		if i < len(capNames) {
			out = append(out, "CAP_"+capNames[i])
		} else {
			out = append(out, fmt.Sprintf("capability %d", i))
		}
	}
	return strings.Join(out, " ")
}

var capNames = [...]string{"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
	"LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO",
	"SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD",
	"LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ",
	"PERFMON", "BPF", "CHECKPOINT_RESTORE"}

// restoreDumpable runs last of all: any change of ids or capabilities sets
// dumpable to fs.suid_dumpable. Who may look into a process that is not dumpable
// goes by the user namespace in which its memory was made by execve(2)
// (mm->user_ns, __ptrace_may_access() in kernel/ptrace.c). That of a bare child
// is the container's: it cannot execute once more, since it has shared memory
// from before its birth.
func restoreDumpable(r *kind.Restore, t *kind.Target) error {
	if !t.OwnsVM || t.MM == nil || t.MM.Dumpable == nil {
		return nil
	}
	v := t.MM.GetDumpable()
	if v == 2 {
		v = 0 // nobody may set 2 (prctl(2)); to everyone but core dumps it is the same
		r.Log.Info("dumpable 2 becomes 0", "vpid", t.VPID)
	}
	if v == 0 && t.IDs.GetUserNsId() > image.NamespaceID {
		r.Log.Warn("not dumpable, in a user namespace made inside: from now on only who has rights over the whole container can look into it", "vpid", t.VPID)
	}
	if v != 0 && v != 1 {
		return failure.Damagedf("dumpable %d", v)
	}
	t.Late.Note(t.Late.Must(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, uint64(v), 0, 0, 0), "set dumpable")
	return nil
}

// capData is the header and the two data elements of capset(2).
func capData(eff, prm, inh uint64) (header, data []byte) {
	le := binary.LittleEndian
	header = le.AppendUint32(nil, unix.LINUX_CAPABILITY_VERSION_3)
	header = le.AppendUint32(header, 0)
	for shift := 0; shift <= 32; shift += 32 {
		for _, set := range []uint64{eff, prm, inh} {
			data = le.AppendUint32(data, uint32(set>>shift))
		}
	}
	return header, data
}
