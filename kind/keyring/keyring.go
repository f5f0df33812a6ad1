// Package keyring looks for keyrings(7) that processes have made for themselves.
//
// What the kernel shows: a thread can ask for the ids of its own keyrings
// (keyctl(2)). What is in them may be read by who possesses the key, and not
// even by him where the key's type forbids it. Who has no session keyring is given that
// of its user as soon as it asks (lookup_user_key() in the kernel's
// security/keys/process_keys.c). That costs a user namespace three keys of the
// few that its owner may have, so it is asked for in the first one alone.
//
// What is saved: nothing. A process is refused that has a keyring for a
// thread, for itself, or a session keyring that it has joined inside.
//
// What is lost: see Limits.
//
// Needs: nothing; without CONFIG_KEYS there is nothing to look for.
package keyring

import (
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
	ofUserSession = ^uint64(4) // KEY_SPEC_USER_SESSION_KEYRING, -5
	getID         = 0          // KEYCTL_GET_KEYRING_ID
)

// New gives what to look for in a process and in each thread.
func New() (kind.Process, kind.Thread) {
	s := &saver{}
	process := kind.Process{
		Name:    "keyrings",
		Refuses: "a keyring of a thread, a process, or a session keyring joined inside",
		Ask:     s.ask, Unseen: "keyrings",
		Limits: "session keyrings made inside are noticed by root alone; a restored container has the session keyring, and the users' keyrings, that are there where it is restored",
	}
	return process, kind.Thread{Name: "keyrings", Ask: askThread}
}

// saver is one dump.
type saver struct {
	begun bool
	first uint64 // serial number of the first process's session keyring; 0: it has none
}

func (s *saver) ask(d *kind.Dump, p *kind.Proc, sc *tracee.Script) (func() error, error) {
	process := sc.Try(unix.SYS_KEYCTL, getID, ofProcess, 0)
	read := func() error { return none(sc, process, "a keyring of its own (KEY_SPEC_PROCESS_KEYRING)") }
	if !d.Privileged || p.IDs.GetUserNsId() > image.NamespaceID {
		return read, nil
	}
	user := sc.Try(unix.SYS_KEYCTL, getID, ofUserSession, 0)
	session := sc.Try(unix.SYS_KEYCTL, getID, ofSession, 0)
	return func() error {
		if err := read(); err != nil {
			return err
		}
		common, _, err := result(sc, user)
		if err != nil {
			return err
		}
		id, there, err := result(sc, session)
		if err != nil {
			return err
		}
		if !there || id == common {
			id = 0
		}
		if !s.begun {
			s.begun, s.first = true, id
		}
		return s.check(id)
	}, nil
}

// check: one that all have is that of whoever started the container.
func (s *saver) check(id uint64) error {
	if id == s.first || id == 0 {
		return nil
	}
	return refuse("a session keyring other than that of the container's first process (KEYCTL_JOIN_SESSION_KEYRING)")
}

func askThread(_ *kind.Dump, _ *kind.Proc, _ *kind.Task, sc *tracee.Script) (func() error, error) {
	thread := sc.Try(unix.SYS_KEYCTL, getID, ofThread, 0)
	return func() error { return none(sc, thread, "a keyring of its own (KEY_SPEC_THREAD_KEYRING)") }, nil
}

func none(sc *tracee.Script, step tracee.Step, what string) error {
	_, there, err := result(sc, step)
	if err != nil || !there {
		return err
	}
	return refuse(what)
}

func refuse(what string) error {
	return failure.WithHint(failure.Unsupportedf("it has %s, whose keys cannot be read", what),
		"have it keep its keys in the user's keyring (KEY_SPEC_USER_KEYRING), which belongs to the machine, and not to the container")
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
