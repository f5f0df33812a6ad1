package sched

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kind"
	"ckpt/pidns"
)

// Autogroups are the nice values of sessions (sched(7)): the kernel schedules
// each session as a group, which a fork passes on and setsid(2) makes anew.
// The processes tell theirs; the other half sets it.
func Autogroups() (kind.Process, kind.Namespace) {
	seen := map[pidns.VPID]bool{}
	return kind.Process{
			Name:  "autogroup",
			Saves: "the nice value of a session (/proc/PID/autogroup)",
			Observe: func(_ *kind.Dump, p *kind.Proc) error {
				if p.Extra == nil || p.SID == 0 || seen[p.SID] {
					return nil
				}
				seen[p.SID] = true
				nice, _, err := p.FS.Autogroup()
				p.Extra.AutogroupNice = int32(nice)
				return err
			},
			Sound: soundAutogroup,
		}, kind.Namespace{
			Name:    "autogroup",
			Dump:    func(*kind.Dump) error { return nil }, // saved with the processes
			Restore: func(*kind.Restore) error { return nil },
			Finish:  setAutogroups,
		}
}

func setAutogroups(r *kind.Restore) error {
	for _, t := range r.Targets {
		if nice := t.Extra.GetAutogroupNice(); nice != 0 && !t.Zombie {
			if err := setAutogroup(r, t, nice); err != nil {
				return fmt.Errorf("session %d: %w", t.Entry.GetSid(), err)
			}
		}
	}
	return nil
}

// The kernel takes one such change in 100 ms from all who lack CAP_SYS_ADMIN
// in the first user namespace, others are EAGAIN
// (proc_sched_autogroup_set_nice() in kernel/sched/autogroup.c).
const (
	autogroupPause = 5 * time.Millisecond
	autogroupMost  = 5 * time.Second
)

func setAutogroup(r *kind.Restore, t *kind.Target, nice int32) error {
	fd, err := unix.Openat(int(r.HostProc.Fd()), path.Join(t.Host.String(), "autogroup"), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		r.Log.Warn("the nice value of a session's autogroup is not set: this kernel has none (CONFIG_SCHED_AUTOGROUP)", "session", t.Entry.GetSid(), "nice", nice)
		return nil
	}
	if err != nil {
		return fmt.Errorf("open its autogroup: %w", err)
	}
	f := os.NewFile(uintptr(fd), "autogroup")
	defer f.Close()
	for until := time.Now().Add(autogroupMost); ; time.Sleep(autogroupPause) {
		_, err = unix.Write(fd, strconv.AppendInt(nil, int64(nice), 10))
		if !errors.Is(err, unix.EAGAIN) || time.Now().After(until) {
			break
		}
	}
	switch {
	case errors.Is(err, unix.EAGAIN):
		return failure.WithHint(fmt.Errorf("set the nice value of its autogroup: other programs set theirs all the time: %w", err), "try again, or restore it as root")
	case err != nil:
		return notRaised(fmt.Sprintf("nice value %d of its autogroup", nice), err)
	}
	return nil
}
