package tty

import (
	"fmt"
	"os"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"golang.org/x/sys/unix"

	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/tracee"
)

const devTTY = "/dev/tty"

// openDevTTY makes a description of /dev/tty, which is the controlling terminal
// of whoever opens it: the leader of the session has it already, and ckpt takes
// the descriptor from there. nil: it is none, or the leader has ended.
func (p *pair) openDevTTY(r *kind.Restore, e *fdinfo.FileEntry) (*os.File, error) {
	name := r.Entries[e.GetTty().GetRegfId()].GetReg().GetName()
	leader := pidns.VPID(p.slave.GetSid())
	if name != devTTY || leader == 0 || r.As == nil || !r.Acts(leader) {
		return nil, nil
	}
	host, ok := r.HostPID(leader)
	if !ok {
		return nil, nil
	}
	flags := e.GetTty().GetFlags()
	fd, err := callIn(r, leader, unix.SYS_OPENAT, func(s *tracee.Script) []uint64 {
		return []uint64{tracee.AtCwd, s.Str(devTTY), uint64(kind.OpenFlags(flags) | unix.O_NOCTTY | unix.O_CLOEXEC), 0}
	})
	if err != nil {
		return nil, fmt.Errorf("open %s in pid %d: %w", devTTY, leader, err)
	}
	pidfd, err := unix.PidfdOpen(int(host), 0)
	if err != nil {
		return nil, fmt.Errorf("take %s from pid %d: %w", devTTY, leader, err)
	}
	defer unix.Close(pidfd)
	own, err := unix.PidfdGetfd(pidfd, int(fd), 0)
	if err != nil {
		return nil, fmt.Errorf("take %s from pid %d (pidfd_getfd): %w", devTTY, leader, err)
	}
	if _, err := callIn(r, leader, unix.SYS_CLOSE, func(*tracee.Script) []uint64 { return []uint64{fd} }); err != nil {
		unix.Close(own)
		return nil, fmt.Errorf("close %s in pid %d: %w", devTTY, leader, err)
	}
	return kind.NewFile(own, flags, devTTY)
}

// callIn runs one call in a bare process.
func callIn(r *kind.Restore, v pidns.VPID, nr uintptr, args func(*tracee.Script) []uint64) (n uint64, err error) {
	var step tracee.Step
	err = r.As(v, func(s *tracee.Script) error {
		step = s.Must(nr, args(s)...)
		return nil
	}, func(s *tracee.Script) (err error) {
		n, err = s.Result(step)
		return err
	})
	return n, err
}
