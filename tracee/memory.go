package tracee

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ReadMemory reads len(b) bytes at addr of the process with host id pid.
// process_vm_readv(2) respects the page protection; where it fails (PROT_NONE),
// /proc/PID/mem does not. EIO or EFAULT: nothing is mapped there.
func ReadMemory(pid int, addr uint64, b []byte) error {
	for len(b) > 0 {
		local := unix.Iovec{Base: &b[0], Len: uint64(len(b))}
		n, err := unix.ProcessVMReadv(pid, []unix.Iovec{local}, []unix.RemoteIovec{{Base: uintptr(addr), Len: len(b)}}, 0)
		if err == unix.ESRCH {
			return fmt.Errorf("read %d bytes of memory at %#x: %w", len(b), addr, err)
		}
		if err != nil || n == 0 {
			return memFile(pid, os.O_RDONLY, addr, len(b), func(f *os.File) error {
				_, err := f.ReadAt(b, int64(addr))
				return err
			})
		}
		b, addr = b[n:], addr+uint64(n)
	}
	return nil
}

// WriteMemory writes b at addr of the process with host id pid. Where the
// page is not writable, /proc/PID/mem makes a private copy of it.
func WriteMemory(pid int, addr uint64, b []byte) error {
	if beforeRequest != nil {
		beforeRequest("write memory")
	}
	for len(b) > 0 {
		local := unix.Iovec{Base: &b[0], Len: uint64(len(b))}
		n, err := unix.ProcessVMWritev(pid, []unix.Iovec{local}, []unix.RemoteIovec{{Base: uintptr(addr), Len: len(b)}}, 0)
		if err == unix.ESRCH {
			return fmt.Errorf("write %d bytes of memory at %#x: %w", len(b), addr, err)
		}
		if err != nil || n == 0 {
			return writeThrough(pid, addr, b)
		}
		b, addr = b[n:], addr+uint64(n)
	}
	return nil
}

// WriteAsOwner writes b where the process itself could write, and nowhere else:
// EFAULT or EIO where it could not.
func WriteAsOwner(pid int, addr uint64, b []byte) error {
	if beforeRequest != nil {
		beforeRequest("write memory")
	}
	local := unix.Iovec{Base: &b[0], Len: uint64(len(b))}
	n, err := unix.ProcessVMWritev(pid, []unix.Iovec{local}, []unix.RemoteIovec{{Base: uintptr(addr), Len: len(b)}}, 0)
	if err == nil && n != len(b) {
		err = unix.EFAULT
	}
	if err != nil {
		return fmt.Errorf("write %d bytes of memory at %#x: %w", len(b), addr, err)
	}
	return nil
}

// writeThrough writes whatever the page protection. The kernel may forbid
// that to /proc/PID/mem (proc_mem.force_override=, 6.12) but not to ptrace.
func writeThrough(pid int, addr uint64, b []byte) error {
	err := memFile(pid, os.O_WRONLY, addr, len(b), func(f *os.File) error {
		_, err := f.WriteAt(b, int64(addr))
		return err
	})
	if err == nil {
		return nil
	}
	if _, perr := unix.PtracePokeData(pid, uintptr(addr), b); perr != nil {
		return err
	}
	return nil
}

func memFile(pid, flag int, addr uint64, n int, do func(*os.File) error) error {
	f, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), flag, 0)
	if err == nil {
		err = do(f)
		f.Close()
	}
	if err != nil {
		if e, ok := err.(*os.PathError); ok {
			err = e.Err
		}
		verb := "read"
		if flag == os.O_WRONLY {
			verb = "write"
		}
		return fmt.Errorf("%s %d bytes of memory at %#x: %w", verb, n, addr, err)
	}
	return nil
}

// ReadUint64 and ReadUint32 read one little-endian number.
func ReadUint64(pid int, addr uint64) (uint64, error) {
	var b [8]byte
	err := ReadMemory(pid, addr, b[:])
	return binary.LittleEndian.Uint64(b[:]), err
}

func ReadUint32(pid int, addr uint64) (uint32, error) {
	var b [4]byte
	err := ReadMemory(pid, addr, b[:])
	return binary.LittleEndian.Uint32(b[:]), err
}

// WriteUint64 writes one little-endian number.
func WriteUint64(pid int, addr, v uint64) error {
	return WriteMemory(pid, addr, binary.LittleEndian.AppendUint64(nil, v))
}
