package harness

import "golang.org/x/sys/unix"

// ntARMSystemCall is NT_ARM_SYSTEM_CALL (include/uapi/linux/elf.h): the number of the
// system call, an int.
const ntARMSystemCall = 0x404

// skipCall has a thread that is about to make a system call make none.
func skipCall(tid int) error {
	var r unix.PtraceRegsArm64
	r.Regs[0] = ^uint64(0)
	return unix.PtraceSetRegSetArm64(tid, ntARMSystemCall, &r)
}

// endCall has a system call that is about to end return an error.
func endCall(tid int, errno unix.Errno) error {
	var r unix.PtraceRegsArm64
	err := unix.PtraceGetRegSetArm64(tid, ntPRStatus, &r)
	if err != nil {
		return err
	}
	r.Regs[0] = -uint64(errno)
	return unix.PtraceSetRegSetArm64(tid, ntPRStatus, &r)
}

// ntPRStatus is NT_PRSTATUS: the general registers.
const ntPRStatus = 1
