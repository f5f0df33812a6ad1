package tracee

import "github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"

// What images call this architecture: Machine in core entries, Arch in the
// manifest.
const (
	Machine = criu_core.CoreEntry_AARCH64
	Arch    = "aarch64"
)
