package restore

import (
	"bytes"
	"errors"
	"fmt"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kernel"
	"ckpt/procfs"
	"ckpt/tracee"
)

// otherArch: nothing in such an image means anything here.
func otherArch(m *image.Manifest) bool {
	arch := m.GetMachine().GetArch()
	return arch != "" && arch != tracee.Arch
}

// checkMachine refuses an image that this machine cannot run, with all that stands
// in the way.
func checkMachine(m *image.Manifest, anyCPU bool) error {
	from := m.GetMachine()
	if otherArch(m) {
		return failure.Mark(failure.ErrIncompatible, fmt.Errorf("the image is of a %s machine, this one is %s", from.GetArch(), tracee.Arch))
	}
	vdso, err := kernel.VDSO()
	if err != nil {
		return err
	}
	var errs []error
	if len(from.GetVdso()) > 0 && !bytes.Equal(vdso, from.GetVdso()) {
		errs = append(errs, otherKernel(from.GetKernel()))
	}
	if !anyCPU {
		here, err := procfs.ReadCPU()
		if err != nil {
			return err
		}
		errs = append(errs, checkCPU(from, here))
	}
	return errors.Join(errs...)
}

// otherKernel tells that the vDSO is another kernel's; name is "" where the image
// is one of criu's, which does not tell.
func otherKernel(name string) error {
	of, hint := " of "+name, "restore it under the kernel "+name
	if name == "" {
		of, hint = "", "restore it under the kernel that criu has dumped it on"
	}
	return failure.WithHint(failure.Mark(failure.ErrIncompatible,
		fmt.Errorf("its programs hold code of the kernel they ran on (vDSO%s), and this kernel has another", of)), hint)
}
