package tracee

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	ntPRStatus = 1     // NT_PRSTATUS
	ntXState   = 0x202 // NT_X86_XSTATE
	ntIOPerm   = 0x201 // NT_386_IOPERM, 64-bit threads have it, too
)

// beforeRequest, set by tests only, is called before every ptrace request and
// every write into a target: an instant at which ckpt may be killed.
var beforeRequest func(what string)

func ptrace(req, tid int, addr, data uintptr) (uintptr, error) {
	if beforeRequest != nil {
		beforeRequest(fmt.Sprintf("ptrace %#x", req))
	}
	r, _, e := unix.Syscall6(unix.SYS_PTRACE, uintptr(req), uintptr(tid), addr, data, 0, 0)
	if e != 0 {
		return 0, e
	}
	return r, nil
}

// ptracePtr is ptrace whose data is memory of ours.
func ptracePtr(req, tid int, addr uintptr, data unsafe.Pointer) (uintptr, error) {
	if beforeRequest != nil {
		beforeRequest(fmt.Sprintf("ptrace %#x", req))
	}
	r, _, e := unix.Syscall6(unix.SYS_PTRACE, uintptr(req), uintptr(tid), addr, uintptr(data), 0, 0)
	if e != 0 {
		return 0, e
	}
	return r, nil
}

func getRegset(tid int, kind uintptr, b []byte) (int, error) {
	iov := unix.Iovec{Base: &b[0], Len: uint64(len(b))}
	_, err := ptracePtr(unix.PTRACE_GETREGSET, tid, kind, unsafe.Pointer(&iov))
	runtime.KeepAlive(b)
	return int(iov.Len), err
}

func setRegset(tid int, kind uintptr, b []byte) error {
	iov := unix.Iovec{Base: &b[0], Len: uint64(len(b))}
	_, err := ptracePtr(unix.PTRACE_SETREGSET, tid, kind, unsafe.Pointer(&iov))
	runtime.KeepAlive(b)
	return err
}

func getRegs(tid int) (r Regs, err error) {
	_, err = getRegset(tid, ntPRStatus, unsafe.Slice((*byte)(unsafe.Pointer(&r)), unsafe.Sizeof(r)))
	return r, err
}

func setRegs(tid int, r Regs) error {
	return setRegset(tid, ntPRStatus, unsafe.Slice((*byte)(unsafe.Pointer(&r)), unsafe.Sizeof(r)))
}

// sigsetSize is that of the kernel's sigset_t.
const sigsetSize = 8

func getSigmask(tid int) (m uint64, err error) {
	_, err = ptracePtr(unix.PTRACE_GETSIGMASK, tid, sigsetSize, unsafe.Pointer(&m))
	return m, err
}

func setSigmask(tid int, m uint64) error {
	_, err := ptracePtr(unix.PTRACE_SETSIGMASK, tid, sigsetSize, unsafe.Pointer(&m))
	return err
}

func getSiginfo(tid int) (si siginfo, err error) {
	_, err = ptracePtr(unix.PTRACE_GETSIGINFO, tid, 0, unsafe.Pointer(&si))
	return si, err
}

func setSiginfo(tid int, si siginfo) error {
	_, err := ptracePtr(unix.PTRACE_SETSIGINFO, tid, 0, unsafe.Pointer(&si))
	return err
}

func eventMessage(tid int) (int, error) {
	var v uint64
	_, err := ptracePtr(unix.PTRACE_GETEVENTMSG, tid, 0, unsafe.Pointer(&v))
	return int(v), err
}

// peekSignals reads queued signals from number off on, at most as many as fit.
func peekSignals(tid int, off uint64, shared bool, out []siginfo) (int, error) {
	args := struct {
		off   uint64
		flags uint32
		nr    int32
	}{off: off, nr: int32(len(out))}
	if shared {
		args.flags = unix.PTRACE_PEEKSIGINFO_SHARED
	}
	n, err := ptracePtr(unix.PTRACE_PEEKSIGINFO, tid, uintptr(unsafe.Pointer(&args)), unsafe.Pointer(&out[0]))
	return int(n), err
}

func rseqConfig(tid int) (c Rseq, err error) {
	var k struct {
		ptr              uint64
		size, sig, flags uint32
		_                uint32
	}
	_, err = ptracePtr(unix.PTRACE_GET_RSEQ_CONFIGURATION, tid, unsafe.Sizeof(k), unsafe.Pointer(&k))
	return Rseq{Ptr: k.ptr, Size: k.size, Signature: k.sig, Flags: k.flags}, err
}

func robustList(tid int) (head, size uint64, err error) {
	_, _, e := unix.Syscall(unix.SYS_GET_ROBUST_LIST, uintptr(tid), uintptr(unsafe.Pointer(&head)), uintptr(unsafe.Pointer(&size)))
	if e != 0 {
		return 0, 0, e
	}
	return head, size, nil
}

// userDispatch tells whether Syscall User Dispatch is on (6.4 and later have
// the request; EIO before).
func userDispatch(tid int) (on bool, err error) {
	var k struct{ mode, selector, offset, len uint64 }
	_, err = ptracePtr(unix.PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, tid, unsafe.Sizeof(k), unsafe.Pointer(&k))
	return k.mode != 0, err
}

// seccompFilter is the i-th filter, the newest first; each instruction 8
// bytes (struct sock_filter). ENOENT: no such filter.
func seccompFilter(tid, i int) ([]byte, error) {
	n, err := ptrace(unix.PTRACE_SECCOMP_GET_FILTER, tid, uintptr(i), 0)
	if err != nil || n == 0 {
		return nil, err
	}
	b := make([]byte, n*8)
	_, err = ptracePtr(unix.PTRACE_SECCOMP_GET_FILTER, tid, uintptr(i), unsafe.Pointer(&b[0]))
	return b, err
}

// seccompFlags are the SECCOMP_FILTER_FLAG_* the i-th filter was set with.
func seccompFlags(tid, i int) (uint64, error) {
	k := struct{ off, flags uint64 }{off: uint64(i)}
	_, err := ptracePtr(unix.PTRACE_SECCOMP_GET_METADATA, tid, unsafe.Sizeof(k), unsafe.Pointer(&k))
	return k.flags, err
}
