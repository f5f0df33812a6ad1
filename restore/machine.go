package restore

import (
	"bytes"
	"fmt"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kernel"
	"ckpt/tracee"
)

// checkMachine refuses an image that this machine cannot run.
func checkMachine(m *image.Manifest) error {
	from := m.GetMachine()
	if arch := from.GetArch(); arch != "" && arch != tracee.Arch {
		return failure.Mark(failure.ErrIncompatible, fmt.Errorf("the image is of a %s machine, this one is %s", arch, tracee.Arch))
	}
	vdso, err := kernel.VDSO()
	if err != nil {
		return err
	}
	if len(from.GetVdso()) > 0 && !bytes.Equal(vdso, from.GetVdso()) {
		return failure.WithHint(
			failure.Mark(failure.ErrIncompatible, fmt.Errorf("its programs hold code of the kernel they ran on (vDSO of %s), and this kernel has another", from.GetKernel())),
			"restore it under the kernel "+from.GetKernel())
	}
	return nil
}
