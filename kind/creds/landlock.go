package creds

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/tracee"
)

// Landlock refuses processes that have given up rights by landlock(7). No rule
// of it is shown to anybody, nor that there are any; but who has some may look
// into no process that has none of them (hook_ptrace_access_check() of
// security/landlock/task.c). So each is made to try it with a bare child like
// itself.
func Landlock() kind.Namespace {
	return kind.Namespace{
		Name:    "Landlock",
		Refuses: "a process that has given up rights by landlock(7)",
		Limits: "a restored program is free of rules that are not seen: those that another thread than the first alone has, or one that had CAP_SYS_ADMIN instead of no_new_privs, if they are not of files; " +
			"of a process with no_new_privs in a user or pid namespace made inside it is told that this is not known",
		Ask:     refuseLandlock,
		Dump:    func(*kind.Dump) error { return nil },
		Restore: func(*kind.Restore) error { return nil },
	}
}

var errLandlock = failure.WithHint(failure.Unsupportedf("it has given up rights by landlock(7), and its rules are shown to nobody"),
	"start the program without its sandbox")

// realIDs is who may look into a process without further rights: whose real
// ids are all of the other's.
type realIDs struct{ uid, gid uint32 }

// refuseLandlock looks at those with no_new_privs, which Landlock takes of
// whoever has no CAP_SYS_ADMIN.
func refuseLandlock(d *kind.Dump) error {
	suspects := map[realIDs][]*kind.Proc{}
	for _, p := range d.Procs {
		lead := p.Lead()
		if p.Zombie || lead == nil || !lead.Status.NoNewPrivs {
			continue
		}
		if len(p.Chain) > 1 || p.IDs.GetUserNsId() > image.NamespaceID {
			d.Log.Warn("whether Landlock confines it cannot be told: a restored one is free of its rules", "vpid", p.VPID, "comm", p.Comm)
			continue
		}
		in, err := d.Inode(&unix.Stat_t{Uid: lead.Status.Uid[0], Gid: lead.Status.Gid[0]})
		if err != nil {
			return err
		}
		as := realIDs{in.GetUid(), in.GetGid()}
		suspects[as] = append(suspects[as], p)
	}
	var refused []error
	for as, all := range suspects {
		refused = append(refused, d.Apart(func(v pidns.VPID, run tracee.Runner) error { return lookInto(d, as, v, run, all) }))
	}
	return errors.Join(refused...)
}

// lookInto makes the bare child v as one of suspects is, without capabilities,
// and has each of these look into it.
func lookInto(d *kind.Dump, as realIDs, v pidns.VPID, run tracee.Runner, suspects []*kind.Proc) error {
	err := run(func(s *tracee.Script) error {
		s.Must(unix.SYS_SETRESGID, uint64(as.gid), uint64(as.gid), uint64(as.gid))
		s.Must(unix.SYS_SETRESUID, uint64(as.uid), uint64(as.uid), uint64(as.uid))
		header := binary.NativeEndian.AppendUint64(nil, unix.LINUX_CAPABILITY_VERSION_3)
		s.Must(unix.SYS_CAPSET, s.Data(header), s.Space(24))
		s.Must(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 1)
		return nil
	}, nil)
	if err != nil {
		return fmt.Errorf("be user %d, group %d: %w", as.uid, as.gid, err)
	}
	const room = 1 << 16
	var refused []error
	for _, p := range suspects {
		err := d.As(p, room, func(run tracee.Runner) error {
			var look tracee.Step
			return run(func(s *tracee.Script) error {
				look = s.Try(unix.SYS_KCMP, uint64(p.VPID), uint64(v), kcmpVM, 0, 0)
				return nil
			}, func(s *tracee.Script) error {
				if _, err := s.Result(look); errors.Is(err, unix.EPERM) {
					return errLandlock
				}
				return nil
			})
		})
		if err != nil {
			refused = append(refused, fmt.Errorf("pid %d (%s): %w", p.VPID, p.Comm, err))
		}
	}
	return errors.Join(refused...)
}

// kcmpVM is KCMP_VM of kcmp(2).
const kcmpVM = 1

// askMount is a call that fails for want of a source, without looking further.
// Landlock has refused it before, if its rules are of files (hook_sb_mount() of
// security/landlock/fs.c), and so has nobody else where the thread may mount.
func askMount(p *kind.Proc, t *kind.Task, s *tracee.Script) func() error {
	if t.Status.CapEff&(1<<unix.CAP_SYS_ADMIN) == 0 || p.IDs.GetUserNsId() > image.NamespaceID {
		return func() error { return nil }
	}
	st := s.Try(unix.SYS_MOUNT, 0, s.Str("/"), 0, unix.MS_MOVE, 0)
	return func() error {
		if _, err := s.Result(st); errors.Is(err, unix.EPERM) {
			return errLandlock
		}
		return nil
	}
}
