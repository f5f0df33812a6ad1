package kernel

import "golang.org/x/sys/unix"

// What Kcmp compares (kcmp(2)).
type KcmpType int

const (
	KcmpFile    KcmpType = iota // open file descriptions, by descriptor number
	KcmpVM                      // address spaces
	KcmpFiles                   // descriptor tables
	KcmpFS                      // cwd, root and umask
	KcmpSighand                 // signal dispositions
	KcmpIO                      // I/O contexts
	KcmpSysvsem                 // semaphore undo lists
)

// Kcmp orders a kernel object of process a against one of process b: 0 where
// they are the same object, else below or above 0 in an order that holds
// until the next boot. ia and ib are descriptors with KcmpFile, else unused.
// Needs CONFIG_KCMP and the right to ptrace both.
func Kcmp(a, b int, t KcmpType, ia, ib int) (int, error) {
	r, _, e := unix.Syscall6(unix.SYS_KCMP, uintptr(a), uintptr(b), uintptr(t), uintptr(ia), uintptr(ib), 0)
	if e != 0 {
		return 0, e
	}
	if r == 1 {
		return -1, nil
	}
	return int(r), nil
}
