package tracee

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Program is the program of stubs, for Execute.
func Program() (*os.File, error) { return stubFile() }

// noRandom is ADDR_NO_RANDOMIZE of personality(2).
const noRandom = 0x40000

// Execute has a stub execute the stubs' program (execve(2)), of which take adds
// the call that gives it a descriptor. It must have one thread. It is a stub as
// before, at the same addresses, in an address space of its own, which holds
// nothing else but what the kernel puts there; for all of the same limits that
// is at the same place. Descriptors that are closed on execve(2) are closed.
func (t *Thread) Execute(site Site, take func(*Script) Step) error {
	was, _, e := unix.RawSyscall(unix.SYS_PERSONALITY, ^uintptr(0)>>32, 0, 0) // which stubs have from ckpt
	if e != 0 {
		return fmt.Errorf("read the personality: %w", e)
	}
	s := NewScript(site.Base)
	name, path := s.Str(stubName), s.Str("")
	env := s.Space(8)
	args := s.Data(binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, name), 0))
	step := take(s)
	s.Must(unix.SYS_PERSONALITY, uint64(was)|noRandom)
	if err := t.Run(site, s); err != nil {
		return err
	}
	fd, err := s.Result(step)
	if err != nil {
		return err
	}
	if _, err := t.SyscallAt(site.Call, unix.SYS_EXECVEAT, fd, path, args, env, unix.AT_EMPTY_PATH); err != nil {
		return fmt.Errorf("execute a program (execveat): %w", err)
	}
	s = NewScript(site.Base)
	s.Must(unix.SYS_PERSONALITY, uint64(was))
	s.Must(unix.SYS_PRCTL, unix.PR_SET_NAME, s.Str(stubName))
	return t.Run(site, s)
}
