package dump

import (
	"golang.org/x/sys/unix"

	"ckpt/image"
	"ckpt/kernel"
	"ckpt/procfs"
	"ckpt/tracee"
)

// machine is what the programs may have taken from where they ran: a restore
// compares it.
func machine() (*image.Machine, error) {
	m := &image.Machine{Arch: tracee.Arch}
	var err error
	if m.Vdso, err = kernel.VDSO(); err != nil {
		return nil, err
	}
	cpu, err := procfs.ReadCPU()
	if err != nil {
		return nil, err
	}
	m.CpuVendor, m.CpuModel, m.CpuFlags = cpu.Vendor, cpu.Model, cpu.Flags
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	return m, nil
}
