package regfile

import (
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kernel"
	"ckpt/kind"
)

// refuseAsked refuses files through which a program has asked to be told of
// something, where the kernel shows that to nobody.
func refuseAsked(desc *kind.Desc) error {
	switch desc.Stat.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return refuseNotify(desc)
	case unix.S_IFREG:
		return refuseTrigger(desc)
	}
	return nil
}

// refuseNotify: F_NOTIFY of fcntl(2) makes whoever asks the directory's owner,
// and nothing else shows it (fcntl_dirnotify() of fs/notify/dnotify/dnotify.c).
// A directory sends no other signals, so it has no owner for any other reason.
func refuseNotify(desc *kind.Desc) error {
	o, err := kernel.FileOwner(desc.File.Fd())
	if err != nil {
		return fmt.Errorf("read owner (F_GETOWN_EX): %w", err)
	}
	if o.PID == 0 && o.Signal == 0 {
		return nil
	}
	return failure.WithHint(failure.Unsupportedf("%s has an owner (F_SETOWN), as a directory has whose changes are told by a signal (F_NOTIFY), which is not carried", desc.Link),
		"let the program close it before the dump, or watch it by inotify(7)")
}

// refuseTrigger: a file of pressure stall information is written to for nothing
// but to set a trigger, which lives as long as it is open
// (Documentation/accounting/psi.rst); cgroup.event_control of a version 1 memory
// group to be told by an eventfd(2).
func refuseTrigger(desc *kind.Desc) error {
	if desc.Info.Flags&unix.O_ACCMODE == unix.O_RDONLY {
		return nil
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(desc.File.Fd()), &fs); err != nil {
		return fmt.Errorf("find its file system: %w", err)
	}
	what := triggers(int64(fs.Type), desc.Link)
	if what == "" {
		return nil
	}
	return failure.WithHint(failure.Unsupportedf("%s is open for writing: %s is not carried", desc.Link, what),
		"let the program close it before the dump, and set the trigger anew")
}

// triggers is what writing to a file sets; "": nothing of that sort.
func triggers(fs int64, link string) string {
	const pressure = "a trigger (pressure stall information)"
	dir, name := path.Split(link)
	switch fs {
	case unix.PROC_SUPER_MAGIC:
		if dir == "/proc/pressure/" {
			return pressure
		}
	case unix.CGROUP2_SUPER_MAGIC:
		if strings.HasSuffix(name, ".pressure") && name != "cgroup.pressure" { // which is a switch
			return pressure
		}
	case unix.CGROUP_SUPER_MAGIC:
		if name == "cgroup.event_control" {
			return "a notification of a control group"
		}
	}
	return ""
}
