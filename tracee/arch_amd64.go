package tracee

import (
	"slices"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"golang.org/x/sys/unix"
)

// What images call this architecture: Machine in core entries, Arch in the
// manifest.
const (
	Machine = criu_core.CoreEntry_X86_64
	Arch    = "x86_64"
)

// Forks tells whether a system call makes processes, and so may be a vfork.
func Forks(nr uint64) bool {
	return slices.Contains([]uint64{unix.SYS_VFORK, unix.SYS_CLONE, unix.SYS_CLONE3}, nr)
}
