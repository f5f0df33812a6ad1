package kernel

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Requests of ioctl_ns(2), Linux 4.9 and 4.11.
const (
	nsGetUserNS   = 0xb701
	nsGetOwnerUID = 0xb704
)

// NamespaceOwner opens the user namespace that a namespace belongs to; of a
// user namespace that is the one around it. EPERM: it is none of the caller's,
// nor inside of that.
func NamespaceOwner(ns *os.File) (*os.File, error) {
	fd, err := unix.IoctlRetInt(int(ns.Fd()), nsGetUserNS)
	if err != nil {
		return nil, fmt.Errorf("find the user namespace of %s (NS_GET_USERNS): %w", ns.Name(), err)
	}
	return os.NewFile(uintptr(fd), "user namespace"), nil
}

// NamespaceMaker is the user who made a user namespace, by his id in the
// caller's own.
func NamespaceMaker(ns *os.File) (uint32, error) {
	uid, err := unix.IoctlGetUint32(int(ns.Fd()), nsGetOwnerUID)
	if err != nil {
		return 0, fmt.Errorf("find who made %s (NS_GET_OWNER_UID): %w", ns.Name(), err)
	}
	return uid, nil
}

// NamespaceLink is what a link of /proc/PID/ns that leads to the namespace
// reads, as "user:[4026531837]".
func NamespaceLink(sort string, ns *os.File) (string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(ns.Fd()), &st); err != nil {
		return "", fmt.Errorf("look at %s: %w", ns.Name(), err)
	}
	return fmt.Sprintf("%s:[%d]", sort, st.Ino), nil
}
