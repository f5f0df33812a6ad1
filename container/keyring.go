package container

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"ckpt/kernel"
)

// sessionKeyring is the serial number of the session keyring
// (session-keyring(7)) that all have that this process makes; 0 where none can
// be told: without keyrings, with one that is revoked, or for an ordinary user,
// who has few keys, and asking makes some. Who has none is given that of its
// user by asking, and so may hand that on: a thread of its own asks.
func sessionKeyring() (id int, err error) {
	privileged, err := kernel.Privileged()
	if err != nil || !privileged {
		return 0, err
	}
	err = kernel.OnThread(func() (err error) {
		id, err = unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false)
		return err
	})
	for _, none := range []error{unix.ENOSYS, unix.EOPNOTSUPP, unix.ENOKEY, unix.EKEYREVOKED, unix.EKEYEXPIRED, unix.EACCES, unix.EPERM, unix.EDQUOT} {
		if errors.Is(err, none) {
			return 0, nil
		}
	}
	if err != nil {
		return 0, fmt.Errorf("look for the session keyring (keyctl): %w", err)
	}
	return id, nil
}
