package creds

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"ckpt/tracee"
)

// identity is all of a thread's credentials that ckpt carries.
type identity struct {
	uid, gid                [4]uint32 // real, effective, saved, file system
	groups                  []uint32
	inh, prm, eff, bnd, amb uint64
	bits                    uint32
	noNewPrivs              bool
}

// keepCaps is SECBIT_KEEP_CAPS.
const keepCaps = 1 << 4

// cut takes out of w what have cannot give: the bounding set only shrinks,
// and nothing enters another set that is not permitted. It gives the
// capabilities that a process of w would have used and does not get; one that
// is only in the bounding set may be missing for want of a newer kernel.
func (w *identity) cut(have identity) (missing uint64) {
	missing = (w.prm | w.inh | w.amb) &^ (have.prm & have.bnd)
	w.bnd &= have.bnd
	w.prm &= have.prm
	w.eff &= w.prm
	w.inh &= have.prm&have.bnd | have.inh
	w.amb &= w.prm & w.inh
	return missing
}

// change adds the calls that turn a thread of the credentials have into one
// of want, and none where they are the same. The order, and why:
//
//	KEEPCAPS      lest the change of user ids drops the permitted set
//	groups, gids  before the uids, while CAP_SETGID is effective
//	uids          clears the effective set
//	capset        all permitted ones effective again; inheritable as wanted,
//	              while the bounding set allows it
//	fsuid, fsgid  follow the effective ids, so only where they differ
//	ambient       needs permitted and inheritable
//	bounding set  needs CAP_SETPCAP
//	securebits    need CAP_SETPCAP, and may forbid what stands above
//	capset        the final sets
//	no_new_privs  hinders nothing, but cannot be undone
func change(s *tracee.Script, have, want identity, groups bool) {
	ids := have.uid != want.uid || have.gid != want.gid
	caps := have.inh != want.inh || have.prm != want.prm || have.eff != want.eff || have.bnd != want.bnd || have.amb != want.amb || have.bits != want.bits
	if groups {
		setGroups(s, want.groups)
	}
	if ids || caps {
		prctl(s, "keep capabilities", unix.PR_SET_KEEPCAPS, 1)
		setIDs(s, have, want)
		capset(s, "raise capabilities", have.prm, have.prm, want.inh)
		setFSIDs(s, want)
		setAmbient(s, have, want)
		setBits(s, have, want)
		capset(s, "set capabilities", want.eff, want.prm, want.inh)
	}
	if want.noNewPrivs && !have.noNewPrivs {
		prctl(s, "set no_new_privs", unix.PR_SET_NO_NEW_PRIVS, 1)
	}
}

func prctl(s *tracee.Script, what string, args ...uint64) {
	var a [5]uint64
	copy(a[:], args)
	s.Note(s.Must(unix.SYS_PRCTL, a[:]...), what)
}

func setGroups(s *tracee.Script, groups []uint32) {
	var b []byte
	for _, g := range groups {
		b = binary.LittleEndian.AppendUint32(b, g)
	}
	s.Note(s.Must(unix.SYS_SETGROUPS, uint64(len(groups)), s.Data(b)), "set groups")
}

func setIDs(s *tracee.Script, have, want identity) {
	if have.gid != want.gid {
		s.Note(s.Must(unix.SYS_SETRESGID, uint64(want.gid[0]), uint64(want.gid[1]), uint64(want.gid[2])), "set group ids")
	}
	if have.uid != want.uid {
		s.Note(s.Must(unix.SYS_SETRESUID, uint64(want.uid[0]), uint64(want.uid[1]), uint64(want.uid[2])), "set user ids")
	}
}

// setFSIDs: setresuid(2) makes the file system's id the effective one.
// setfsuid(2) never fails, it returns the id that was.
func setFSIDs(s *tracee.Script, want identity) {
	if want.gid[3] != want.gid[1] {
		s.Note(s.Must(unix.SYS_SETFSGID, uint64(want.gid[3])), "set the file system's group id")
	}
	if want.uid[3] != want.uid[1] {
		s.Note(s.Must(unix.SYS_SETFSUID, uint64(want.uid[3])), "set the file system's user id")
	}
}

func setAmbient(s *tracee.Script, have, want identity) {
	if have.amb != 0 {
		prctl(s, "clear ambient capabilities", unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL)
	}
	each(want.amb, func(c uint64) {
		prctl(s, "set ambient capability", unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, c)
	})
}

func setBits(s *tracee.Script, have, want identity) {
	each(have.bnd&^want.bnd, func(c uint64) {
		prctl(s, "drop capability from the bounding set", unix.PR_CAPBSET_DROP, c)
	})
	if have.bits&^keepCaps != want.bits&^keepCaps {
		prctl(s, "set securebits", unix.PR_SET_SECUREBITS, uint64(want.bits))
		return
	}
	prctl(s, "set or clear keep-capabilities", unix.PR_SET_KEEPCAPS, uint64(want.bits&keepCaps)/keepCaps)
}

func capset(s *tracee.Script, what string, eff, prm, inh uint64) {
	header, data := capData(eff, prm, inh)
	s.Note(s.Must(unix.SYS_CAPSET, s.Data(header), s.Data(data)), what)
}

func each(set uint64, fn func(c uint64)) {
	for c := range uint64(64) {
		if set>>c&1 != 0 {
			fn(c)
		}
	}
}
