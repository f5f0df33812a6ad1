package container

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"

	"ckpt/console"
	"ckpt/failure"
	"ckpt/tracee"
)

// StartRequest is a container to be started.
type StartRequest struct {
	Path     string   `json:"path"` // of the program, see LookPath
	Command  []string `json:"command"`
	Env      []string `json:"env"`
	Hostname string   `json:"hostname,omitempty"`
	OwnNet   bool     `json:"own_net,omitempty"`
	NoInit   bool     `json:"no_init,omitempty"`
	// Terminal is the size of its terminal; nil: it has none.
	Terminal *console.Size `json:"terminal,omitempty"`
}

// firstVPID is the command's, behind init.
const firstVPID = 2

// Start makes a container and lets its command run in it: with the caller's
// working directory, umask, limits and ids, standard output and error on
// logFile. commit is called when all that can fail is done, before the
// command runs its first instruction. It is the starting half of a Maker.
func Start(ctx context.Context, req StartRequest, logFile *os.File, log *slog.Logger, commit func(*Made) error) (err error) {
	key := NewKey()
	root, err := Create(Spec{Hostname: req.Hostname, OwnNet: req.OwnNet, NoInit: req.NoInit, Key: key})
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, root.Destroy())
		}
	}()
	log.Debug("container made", "init", root.HostPID)
	main, vpid := root.Thread, 1
	if !req.NoInit {
		vpid = firstVPID
		main, err = tracee.ForkStub(root.Thread, root.Site, tracee.ForkOptions{VPID: vpid, ExitSignal: unix.SIGCHLD})
		if err != nil {
			return err
		}
	}
	var terminal *Terminal
	if z := req.Terminal; z != nil {
		master, errMaster := furnishTerminal(main, root.Site, *z, vpid != 1)
		if errMaster != nil {
			return errMaster
		}
		defer func() {
			if err != nil {
				master.Close()
			}
		}()
		terminal = &Terminal{master, console.NewScreen(*z)}
	} else if err := furnish(main, root.Site, int(logFile.Fd()), vpid != 1); err != nil {
		return err
	}
	if err := execve(main, root.Site, req.Path, req.Command, req.Env); err != nil {
		return err
	}
	log.Debug("command executed", "pid", main.PID, "path", req.Path)
	if err := ctx.Err(); err != nil {
		return err
	}
	if !req.NoInit {
		if err := root.BecomeInit(vpid); err != nil {
			return err
		}
	}
	if err := main.SetSigMask(0); err != nil {
		return err
	}
	made := &Made{Root: root, Terminal: terminal, Command: req.Command, MainVPID: vpid, MainHost: main.PID,
		NoInit: req.NoInit, OwnNet: req.OwnNet, Key: key, Processes: 1}
	if err := commit(made); err != nil {
		return err
	}
	if !req.NoInit {
		// Until here the death of ckpt kills the container.
		if err := root.Thread.Detach(0); err != nil {
			return fmt.Errorf("start init: %w", err)
		}
	}
	return main.Detach(0)
}

// furnish gives a stub that is about to execute a program its own session,
// its three descriptors and none of ckpt's, and takes away the capabilities
// that ckpt has only in its own user namespace.
func furnish(t *tracee.Thread, site tracee.Site, out int, session bool) error {
	s := tracee.NewScript(site.Base)
	if session {
		s.Must(unix.SYS_SETSID)
	}
	// Opened here, so that it is a file of the container's own mounts.
	null := s.Must(unix.SYS_OPENAT, 0, s.Str(os.DevNull), unix.O_RDONLY, 0)
	s.Note(null, "open "+os.DevNull)
	s.Feed(null, s.Must(unix.SYS_DUP3, 0, 0, 0), 0)
	log := s.Must(unix.SYS_PIDFD_GETFD, SelfFD, uint64(out), 0)
	s.Note(log, "take the log")
	s.Feed(log, s.Must(unix.SYS_DUP3, 0, 1, 0), 0)
	s.Must(unix.SYS_DUP3, 1, 2, 0)
	if err := strip(s); err != nil {
		return err
	}
	if err := t.Run(site, s); err != nil {
		return fmt.Errorf("prepare the command's process: %w", err)
	}
	return nil
}

// furnishTerminal is furnish for a command with a terminal, whose master it gives.
func furnishTerminal(t *tracee.Thread, site tracee.Site, z console.Size, session bool) (_ *os.File, err error) {
	if session {
		if _, err := t.Syscall(site, unix.SYS_SETSID); err != nil {
			return nil, fmt.Errorf("make a session: %w", err)
		}
	}
	master, err := openTerminal(t, site, z)
	if err != nil {
		return nil, err
	}
	s := tracee.NewScript(site.Base)
	if err = strip(s); err == nil {
		err = t.Run(site, s)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("prepare the command's process: %w", err), master.Close())
	}
	return master, nil
}

// strip adds the calls that take away what is ckpt's.
func strip(s *tracee.Script) error {
	s.Must(unix.SYS_CLOSE_RANGE, 3, 1<<32-1, 0)
	drop, err := dropInheritable()
	if drop != nil {
		hdr := binary.NativeEndian.AppendUint32(nil, unix.LINUX_CAPABILITY_VERSION_3)
		hdr = binary.NativeEndian.AppendUint32(hdr, 0)
		s.Must(unix.SYS_CAPSET, s.Data(hdr), s.Data(drop))
	}
	return err
}

// dropInheritable is the capset(2) data that clears the inheritable
// capabilities, and with them the ambient ones; nil where there are none.
// What is permitted then ends with execve(2), unless the user is root.
func dropInheritable() ([]byte, error) {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var d [2]unix.CapUserData
	if err := unix.Capget(&hdr, &d[0]); err != nil {
		return nil, fmt.Errorf("read capabilities: %w", err)
	}
	if d[0].Inheritable|d[1].Inheritable == 0 {
		return nil, nil
	}
	var b []byte
	for _, x := range d {
		for _, v := range []uint32{x.Effective, x.Permitted, 0} {
			b = binary.NativeEndian.AppendUint32(b, v)
		}
	}
	return b, nil
}

// execve makes t execute a program. t stands at its first instruction then.
func execve(t *tracee.Thread, site tracee.Site, path string, argv, env []string) error {
	// Its own memory: argv and env may have up to 2 MB (ARG_MAX), and go with the old program.
	size := uint64(len(path) + 1)
	for _, l := range [][]string{argv, env} {
		for _, s := range l {
			size += uint64(len(s) + 1 + 8)
		}
		size += 8 + 16
	}
	const page = 4096
	size = (size + page) &^ (page - 1)
	base, err := t.Syscall(site, unix.SYS_MMAP, 0, size, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, 1<<64-1, 0)
	if err != nil {
		return fmt.Errorf("map room for the command's arguments: %w", err)
	}
	b, argvAt, envAt := arguments(base, path, argv, env)
	if err := tracee.WriteMemory(t.PID, base, b); err != nil {
		return err
	}
	if _, err := t.SyscallAt(site.Call, unix.SYS_EXECVE, base, argvAt, envAt); err != nil {
		return cannotExecute(path, err)
	}
	return nil
}

// arguments lays out path, argv and env for execve(2) at address base.
func arguments(base uint64, path string, argv, env []string) (b []byte, argvAt, envAt uint64) {
	add := func(s string) uint64 {
		at := base + uint64(len(b))
		b = append(append(b, s...), 0)
		return at
	}
	add(path)
	array := func(l []string) uint64 {
		var ptrs []uint64
		for _, s := range l {
			ptrs = append(ptrs, add(s))
		}
		for len(b)%8 != 0 {
			b = append(b, 0)
		}
		at := base + uint64(len(b))
		for _, p := range append(ptrs, 0) {
			b = binary.NativeEndian.AppendUint64(b, p)
		}
		return at
	}
	argvAt = array(argv)
	envAt = array(env)
	return b, argvAt, envAt
}

func cannotExecute(path string, err error) error {
	fail := fmt.Errorf("execute %s: %w", path, err)
	switch {
	case errors.Is(err, unix.ENOEXEC):
		return failure.WithHint(fail, "it is neither a program for this machine nor a script with a #! line")
	case errors.Is(err, unix.ENOENT):
		return failure.WithHint(fail, "the file is there, so its interpreter (#! line or dynamic loader) is missing")
	case errors.Is(err, unix.E2BIG):
		return failure.WithHint(fail, "its arguments and environment together are too long (`getconf ARG_MAX`)")
	}
	return fail
}
