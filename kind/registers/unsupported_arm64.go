package registers

import (
	"github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"

	"ckpt/failure"
	"ckpt/kind"
	"ckpt/tracee"
)

// call is known on amd64 only.
type call struct{}

func unsupported() error {
	return failure.Unsupportedf("ckpt does not know the registers of the arm64 architecture yet")
}

func (k *threads) observeRegs(*kind.Task) error                  { return unsupported() }
func (k *threads) resumeCall(*kind.Task, *tracee.Regs) bool      { return false }
func askRegs(*tracee.Script) (read func(*kind.Task))             { return func(*kind.Task) {} }
func fits(*kind.Restore, *kind.Target, *kind.TargetThread) error { return unsupported() }
func restoreRegs(*kind.Target, *kind.TargetThread) error         { return unsupported() }
func setTIDAddress(*criu_core.CoreEntry, uint64)                 {}
func tidAddress(*criu_core.CoreEntry) uint64                     { return 0 }
func extended(*kind.TargetThread) ([]byte, error)                { return nil, unsupported() }
func finalRegs(tracee.Site, *kind.TargetThread) error            { return unsupported() }

func soundRegs(*kind.TargetThread) error { return nil }

func refuseProgram(*kind.Proc) error { return nil }
