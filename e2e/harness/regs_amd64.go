package harness

import "golang.org/x/sys/unix"

// skipCall has a thread that is about to make a system call make none.
func skipCall(tid int) error {
	var r unix.PtraceRegs
	err := unix.PtraceGetRegs(tid, &r)
	if err != nil {
		return err
	}
	r.Orig_rax = ^uint64(0)
	return unix.PtraceSetRegs(tid, &r)
}

// endCall has a system call that is about to end return an error.
func endCall(tid int, errno unix.Errno) error {
	var r unix.PtraceRegs
	err := unix.PtraceGetRegs(tid, &r)
	if err != nil {
		return err
	}
	r.Rax = -uint64(errno)
	return unix.PtraceSetRegs(tid, &r)
}
