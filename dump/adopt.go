package dump

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kernel"
	"ckpt/pidns"
	"ckpt/procfs"
)

// Adopt is the source for a process that ckpt did not start and all that
// descends from it. The name is left to the caller. What cannot be saved by
// being what it is, is an error.
func Adopt(pid pidns.HostPID) (Source, error) {
	fail := func(err error) (Source, error) { return Source{}, err }
	p, err := procfs.Open(int(pid))
	if errors.Is(err, unix.ESRCH) {
		return fail(failure.WithHint(fmt.Errorf("there is no process %d", pid), "`ps -e` lists those there are"))
	}
	if err != nil {
		return fail(err)
	}
	defer p.Close()
	st, err := p.Status()
	if err != nil {
		return fail(err)
	}
	stat, err := p.Stat()
	if err != nil {
		return fail(err)
	}
	if err := adoptable(pid, st, stat); err != nil {
		return fail(err)
	}
	if err := mayTrace(pid, st); err != nil {
		return fail(err)
	}
	command, err := p.Cmdline()
	if err != nil {
		return fail(err)
	}
	if len(command) == 0 {
		command = []string{st.Name}
	}
	return Source{Command: command, Comm: st.Name, Root: pid, MainVPID: pidns.VPID(pid), Adopted: true}, nil
}

func adoptable(pid pidns.HostPID, st *procfs.Status, stat *procfs.Stat) error {
	who := fmt.Sprintf("pid %d (%s)", pid, st.Name)
	switch {
	case st.Tgid != int(pid):
		return failure.WithHint(fmt.Errorf("%s is a thread of process %d, and processes are saved whole", who, st.Tgid),
			fmt.Sprintf("give the process: --pid %d", st.Tgid))
	case stat.Flags&procfs.PFKThread != 0:
		return failure.WithHint(failure.Unsupportedf("%s is a thread of the kernel", who), "give the pid of a program: `ps -e` lists them")
	case pid == 1:
		return failure.WithHint(failure.Unsupportedf("%s is the first process here: everything is below it, ckpt too", who),
			"give the pid of the program to be saved")
	case st.Zombie() && stat.NumThreads <= 1:
		return failure.WithHint(fmt.Errorf("%s has ended; it is only left for its parent to learn how", who),
			fmt.Sprintf("it goes when process %d has waited for it", st.PPid))
	}
	above, err := procfs.Ancestors(os.Getpid())
	if err != nil {
		return err
	}
	if slices.Contains(above, int(pid)) {
		return failure.WithHint(failure.Unsupportedf("%s is an ancestor of this ckpt, which cannot save itself", who),
			"run ckpt from another terminal, or give the pid of the program alone")
	}
	return nil
}

// mayTrace tells beforehand what would be an EPERM.
func mayTrace(pid pidns.HostPID, st *procfs.Status) error {
	privileged, err := kernel.Privileged()
	if err != nil || privileged {
		return err
	}
	if own := uint32(os.Geteuid()); st.Uid[0] != own {
		return failure.WithHint(fmt.Errorf("pid %d (%s) belongs to user %d", pid, st.Name, st.Uid[0]), "dump as root, or as that user")
	}
	return yama()
}

// yama refuses where the security module of that name lets nobody trace but
// those above (Documentation/admin-guide/LSM/Yama.rst). A process of a container
// is below ckpt in that sense, since its user namespace is the user's.
func yama() error {
	const file = "/proc/sys/kernel/yama/ptrace_scope"
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if len(b) > 0 && b[0] == '0' {
		return nil
	}
	return failure.WithHint(failure.Unsupportedf("this machine forbids to trace processes that are no descendants (kernel.yama.ptrace_scope is %c)", b[0]),
		"dump as root", "or allow it: sudo sysctl kernel.yama.ptrace_scope=0", "or start it with ckpt start: what runs in a container can be saved all the same")
}
