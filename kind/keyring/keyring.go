// Package keyring looks for keyrings(7) that processes have made for themselves.
//
// What the kernel shows: a thread can ask for the ids of its own keyrings
// (keyctl(2)). What is in them may be read by who possesses the key, and not
// even by him where the key's type forbids it. Who has no session keyring is given that
// of its user as soon as it asks (lookup_user_key() in the kernel's
// security/keys/process_keys.c). That costs a user namespace three keys of the
// few that its owner may have, so it is asked for in the first one alone.
// Which session keyring a container was given is remembered from its start.
//
// What is saved: nothing. A process is refused that has keys in a keyring of a
// thread, of its own, or in a session keyring that it has joined inside.
//
// What is lost: see Limits.
//
// Needs: nothing; without CONFIG_KEYS there is nothing to look for.
package keyring

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/tracee"
)

// Ids of keyctl(2) for the caller's own keyrings, and its first operation, which
// gives the serial number of one (linux/keyctl.h).
const (
	ofThread      = ^uint64(0) // KEY_SPEC_THREAD_KEYRING, -1
	ofProcess     = ^uint64(1) // KEY_SPEC_PROCESS_KEYRING, -2
	ofSession     = ^uint64(2) // KEY_SPEC_SESSION_KEYRING, -3
	ofUser        = ^uint64(3) // KEY_SPEC_USER_KEYRING, -4
	ofUserSession = ^uint64(4) // KEY_SPEC_USER_SESSION_KEYRING, -5
	getID         = 0          // KEYCTL_GET_KEYRING_ID
)

// New gives what to look for in a process and in each thread.
func New() (kind.Process, kind.Thread) {
	s := &saver{}
	process := kind.Process{
		Name:    "keyrings",
		Refuses: "keys in a keyring of a thread, a process, or in a session keyring joined inside",
		Ask:     s.ask, Unseen: "keyrings",
		Limits: "keyrings without keys are not made again; session keyrings joined inside are noticed by root alone, and with dump --pid only those that the first process has not; a restored container has the session keyring, and the users' keyrings, that are there where it is restored: in an ordinary user's container, new ones",
	}
	return process, kind.Thread{Name: "keyrings", Ask: askThread}
}

// saver is one dump.
type saver struct {
	begun bool
	given uint64 // serial number of the session keyring that all were given; 0: none
}

func (s *saver) ask(d *kind.Dump, p *kind.Proc, sc *tracee.Script) (func() error, error) {
	process := look(sc, ofProcess)
	read := func() error { return process.none(0, "a keyring of its own (KEY_SPEC_PROCESS_KEYRING)", toKeepElse(d)) }
	if !d.Privileged || p.IDs.GetUserNsId() > image.NamespaceID {
		return read, nil
	}
	common := look(sc, ofUserSession)
	users := look(sc, ofUser)
	session := look(sc, ofSession)
	return func() error {
		if err := read(); err != nil {
			return err
		}
		var ids [3]uint64
		for n, l := range []*looked{common, users, session} {
			id, err := l.id()
			if err != nil {
				return err
			}
			ids[n] = id
		}
		if id := ids[2]; id == ids[0] || s.wasGiven(d, id) {
			return nil
		}
		return session.none(ids[1], "a session keyring of its own (KEYCTL_JOIN_SESSION_KEYRING)", toKeepElse(d))
	}, nil
}

// wasGiven takes what the first process has for what all were given, where that
// is not known.
func (s *saver) wasGiven(d *kind.Dump, id uint64) bool {
	if !s.begun {
		s.begun, s.given = true, uint64(d.SessionKeyring)
		if s.given == 0 {
			s.given = id
		}
	}
	return id == s.given
}

// toKeepElse is what a user can do about keys.
func toKeepElse(d *kind.Dump) string {
	if d.Privileged {
		return "have it keep its keys in the user's keyring (KEY_SPEC_USER_KEYRING), which belongs to the machine, and not to the container"
	}
	return "have it give up its keys before the dump (KEYCTL_CLEAR), or start the container as root"
}

func askThread(d *kind.Dump, _ *kind.Proc, _ *kind.Task, sc *tracee.Script) (func() error, error) {
	thread := look(sc, ofThread)
	return func() error { return thread.none(0, "a keyring of its own (KEY_SPEC_THREAD_KEYRING)", toKeepElse(d)) }, nil
}

// looked is a keyring and what is in it, as its owner is told.
type looked struct {
	sc          *tracee.Script
	serial, got tracee.Step
	keys        uint64 // room for the serial numbers of two
}

func look(sc *tracee.Script, which uint64) *looked {
	l := &looked{sc: sc, serial: sc.Try(unix.SYS_KEYCTL, getID, which, 0), keys: sc.Space(8)}
	l.got = sc.Try(unix.SYS_KEYCTL, unix.KEYCTL_READ, which, l.keys, 8)
	return l
}

// id is its serial number; 0 if there is none.
func (l *looked) id() (uint64, error) {
	id, _, err := result(l.sc, l.serial)
	return id, err
}

// none refuses a keyring with keys in it. That of the user, whose serial number
// is users, may be in it, as pam_keyinit(8) has it: that belongs to the machine.
func (l *looked) none(users uint64, what, hint string) error {
	_, there, err := result(l.sc, l.serial)
	if err != nil || !there {
		return err
	}
	size, err := l.sc.Result(l.got)
	if err == nil {
		first := uint64(binary.NativeEndian.Uint32(l.sc.Bytes(l.keys, 4)))
		if size == 0 || size == 4 && first == users {
			return nil
		}
	}
	return failure.WithHint(failure.Unsupportedf("it has %s; keys cannot be read", what), hint)
}

// result is the serial number of a keyring; there is false if there is none.
func result(sc *tracee.Script, step tracee.Step) (id uint64, there bool, err error) {
	id, err = sc.Result(step)
	switch {
	case err == nil:
		return id, true, nil
	case errors.Is(err, unix.EKEYREVOKED), errors.Is(err, unix.EKEYEXPIRED), errors.Is(err, unix.EACCES): // of no use to it
		return 0, false, nil
	case errors.Is(err, unix.ENOKEY), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EOPNOTSUPP):
		return 0, false, nil
	}
	return 0, false, fmt.Errorf("look for a keyring (keyctl): %w", err)
}
