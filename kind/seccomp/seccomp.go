// Package seccomp is the system calls that a thread has given up: seccomp(2).
//
// # What the kernel shows
//
// The mode in /proc/TID/status; the filters through
// PTRACE_SECCOMP_GET_FILTER (4.4, commit f8e529ed941b), which takes
// CAP_SYS_ADMIN in the first user namespace and a ckpt that is not itself
// under seccomp. Filter 0 is the oldest: seccomp(2) and the kernel's
// get_nth_filter() agree, ptrace(2) says the opposite.
//
// # What is saved
//
// seccomp.img: one list of filters for the whole image, each with the one
// that was there before it, so that threads with the same history share
// entries; of each its program and whether it logs.
//
// # What is lost
//
// Nothing. Filters that hand calls to another process
// (SECCOMP_RET_USER_NOTIF) are refused, for nobody can tell who listens.
//
// # Needs
//
// PTRACE_O_SUSPEND_SECCOMP (4.3, commit 13c4a90119d2) on both sides, and so
// root: ckpt's own calls in the thread are not subject to its filters.
package seccomp

import (
	"encoding/binary"
	"fmt"

	criu_core "github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/seccomp"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
)

// insnSize is struct sock_filter: code, two jumps, and k.
const insnSize = 8

// Kind is seccomp(2). In the table of kinds it stands before the credentials:
// a filter is set with CAP_SYS_ADMIN, or with no_new_privs.
func Kind() kind.Thread {
	s, m := &saver{ids: map[link]uint32{}}, &maker{}
	return kind.Thread{
		Name:    "seccomp",
		Saves:   "strict mode and filters, in their order, also shared ones, and whether each logs",
		Refuses: "a filter that hands calls to a supervisor (SECCOMP_RET_USER_NOTIF)",
		Needs:   "root that is under no filter itself, for dump and restore",
		Observe: s.observe,
		Late:    s.write,
		Restore: m.restore,
		Check:   rootOnly,
		Unseen:  unseen,
	}
}

// unseen: filters are shown of a thread that is traced.
func unseen(t *kind.Task) string {
	if t.Status != nil && t.Status.Seccomp == unix.SECCOMP_MODE_FILTER {
		return "seccomp filters that ask a supervisor (SECCOMP_RET_USER_NOTIF)"
	}
	return ""
}

// link is a filter in its place: the same program after other filters is
// another entry.
type link struct {
	prev  int // its number, -1: the first
	prog  string
	flags uint64
}

// saver collects the filters of all threads.
type saver struct {
	ids     map[link]uint32
	all     []*seccomp.SeccompFilter
	written bool
}

// outOfFilter is what root can do who is under seccomp.
const outOfFilter = "run ckpt, and what it starts, where there is none: docker run --security-opt seccomp=unconfined"

func (s *saver) observe(d *kind.Dump, _ *kind.Proc, t *kind.Task) error {
	mode := t.Status.Seccomp
	switch mode {
	case -1, unix.SECCOMP_MODE_DISABLED:
		return nil
	case unix.SECCOMP_MODE_STRICT, unix.SECCOMP_MODE_FILTER:
		switch {
		case d.SuspendsSeccomp:
		case d.Privileged:
			return failure.WithHint(failure.Unsupportedf("it is under seccomp, which can be saved only by root that is under no filter itself"), outOfFilter)
		default:
			return failure.WithHint(failure.Unsupportedf("it is under seccomp, which only root can save"), "dump as root")
		}
	default:
		return failure.WithHint(failure.Unsupportedf("seccomp mode %d is not known", mode), "dump with a newer ckpt")
	}
	if t.Traced == nil || t.Core == nil {
		return nil // only checking, or a leader that has exited
	}
	t.Core.ThreadCore.SeccompMode = criu_core.SeccompMode(mode).Enum()
	if mode != unix.SECCOMP_MODE_FILTER {
		return nil
	}
	last := -1
	for i := 0; ; i++ {
		prog, flags, ok, err := t.Traced.SeccompFilter(i)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if err := check(prog); err != nil {
			return err
		}
		last = int(s.intern(link{last, string(prog), flags}))
	}
	if last < 0 {
		return fmt.Errorf("its seccomp filters cannot be read")
	}
	t.Core.ThreadCore.SeccompFilter = proto.Uint32(uint32(last))
	return nil
}

func (s *saver) intern(l link) uint32 {
	if id, ok := s.ids[l]; ok {
		return id
	}
	id := uint32(len(s.all))
	e := &seccomp.SeccompFilter{Filter: []byte(l.prog), Flags: proto.Uint32(uint32(l.flags))}
	if l.prev >= 0 {
		e.Prev = proto.Uint32(uint32(l.prev))
	}
	s.ids[l], s.all = id, append(s.all, e)
	return id
}

// check refuses a program that may answer SECCOMP_RET_USER_NOTIF.
func check(prog []byte) error {
	const ret = unix.BPF_RET | unix.BPF_K
	for ; len(prog) >= insnSize; prog = prog[insnSize:] {
		if binary.NativeEndian.Uint16(prog) == ret && binary.NativeEndian.Uint32(prog[4:])&unix.SECCOMP_RET_ACTION_FULL == unix.SECCOMP_RET_USER_NOTIF {
			return failure.WithHint(failure.Unsupportedf("a seccomp filter hands calls to a supervisor (SECCOMP_RET_USER_NOTIF)"),
				"start the program without the supervisor that set it")
		}
	}
	return nil
}

// write writes the list once, when all threads have been seen.
func (s *saver) write(d *kind.Dump, _ *kind.Proc, _ *kind.Task) error {
	if s.written || len(s.all) == 0 {
		return nil
	}
	s.written = true
	return d.Out.Add(image.Seccomp, "", &seccomp.SeccompEntry{SeccompFilters: s.all})
}
