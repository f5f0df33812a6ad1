package taskmisc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/procfs"
	"ckpt/tracee"
)

const (
	noLoginUID = 1<<32 - 1 // never set (audit(7))
	unmapped   = 65534     // an id without a number inside

	// PF_MEMALLOC_NOIO and PF_LOCAL_THROTTLE (include/linux/sched.h), which
	// only PR_SET_IO_FLUSHER sets together and for long.
	ioFlusher = 0x80000 | 0x100000

	prGetMDWE = 66 // 6.3
	prSetMDWE = 65

	prSetMemoryMerge = 67 // 6.4
	prGetMemoryMerge = 68
)

func observe(d *kind.Dump, p *kind.Proc) error {
	if err := refuse(p.Status, p.Stat); err != nil {
		return err
	}
	adj, err := p.FS.OOMScoreAdj()
	if err != nil {
		return err
	}
	login, known, err := p.FS.LoginUID()
	if err != nil {
		return err
	}
	if p.TC == nil {
		return nil // only checking
	}
	p.TC.OomScoreAdj = proto.Int32(int32(adj))
	if p.Lead().Host == p.Host { // the file of a leader that has exited is empty
		filter, err := p.FS.CoredumpFilter()
		if err != nil {
			return err
		}
		p.Extra.CoredumpFilter = proto.Uint32(filter)
	}
	p.TC.Flags = proto.Uint32(uint32(p.Stat.Flags))
	if !known {
		return nil
	}
	if login != noLoginUID {
		in, err := d.Inode(&unix.Stat_t{Uid: login})
		if err != nil {
			return err
		}
		if in.Uid == unmapped {
			return nil // a user of the host, unknown inside
		}
		login = in.Uid
	}
	p.TC.Loginuid = proto.Uint32(login)
	return nil
}

func refuse(st *procfs.Status, stat *procfs.Stat) error {
	switch {
	case st.X86ThreadFeatures != "":
		return failure.WithHint(failure.Unsupportedf("it has a shadow stack (%s)", st.X86ThreadFeatures),
			"start it with GLIBC_TUNABLES=glibc.cpu.x86_shstk=off")
	case st.UntagMask != 0 && st.UntagMask != 1<<64-1:
		return failure.WithHint(failure.Unsupportedf("it uses linear address masking (untag_mask %#x)", st.UntagMask),
			"run the program without tagged addresses (ARCH_ENABLE_TAGGED_ADDR)")
	case stat.Flags&ioFlusher == ioFlusher:
		return failure.WithHint(failure.Unsupportedf("it is part of the way to a disk (PR_SET_IO_FLUSHER)"),
			"unmount what it serves, and end it, before the dump")
	}
	return nil
}

// fieldMembarrier is membarrier_registration_mask of CRIU's task_core_entry.
const fieldMembarrier = 22

// Commands of membarrier(2).
const (
	membarrierQuery            = 0
	membarrierGetRegistrations = 1 << 9
	membarrierRegister         = 1<<2 | 1<<4 | 1<<6 | 1<<8 // global, private, sync-core, rseq
)

func ask(_ *kind.Dump, p *kind.Proc, s *tracee.Script) (func() error, error) {
	reaper := s.Space(4)
	s.Note(s.Must(unix.SYS_PRCTL, unix.PR_GET_CHILD_SUBREAPER, reaper, 0, 0, 0), "read whether it reaps orphans")
	thp := s.Must(unix.SYS_PRCTL, unix.PR_GET_THP_DISABLE, 0, 0, 0, 0)
	s.Note(thp, "read whether huge pages are off")
	mdwe := s.Try(unix.SYS_PRCTL, prGetMDWE, 0, 0, 0, 0)
	merge := s.Try(unix.SYS_PRCTL, prGetMemoryMerge, 0, 0, 0, 0)
	known := s.Try(unix.SYS_MEMBARRIER, membarrierQuery, 0, 0)
	registered := s.Try(unix.SYS_MEMBARRIER, membarrierGetRegistrations, 0, 0)
	ldt := askLDT(s)
	return func() error {
		if err := checkLDT(s, ldt); err != nil {
			return err
		}
		p.TC.ChildSubreaper = proto.Bool(binary.LittleEndian.Uint32(s.Bytes(reaper, 4)) != 0)
		v, err := s.Result(thp)
		if err != nil {
			return fmt.Errorf("read whether huge pages are off: %w", err)
		}
		p.Extra.ThpDisabled = uint32(v)
		if v == 1 {
			p.MM.ThpDisabled = proto.Bool(true)
		}
		if p.Extra.Mdwe, err = optional(s, mdwe); err != nil {
			return fmt.Errorf("read PR_GET_MDWE: %w", err)
		}
		merges, err := optional(s, merge)
		if err != nil {
			return fmt.Errorf("read PR_GET_MEMORY_MERGE: %w", err)
		}
		p.Extra.MemoryMerge = merges != 0
		barriers, err := registrations(s, known, registered)
		if err != nil {
			return fmt.Errorf("read membarrier registrations: %w", err)
		}
		setMembarrier(p.TC, p.Extra, barriers)
		return nil
	}, nil
}

// setMembarrier says it in CRIU's words, too.
func setMembarrier(tc *criu_core.TaskCoreEntry, x *image.Task, registered uint32) {
	x.Membarrier = registered
	if registered != 0 {
		image.AddNewer(tc, fieldMembarrier, uint64(registered))
	}
}

// optional is the result of a call that older kernels do not know.
func optional(s *tracee.Script, st tracee.Step) (uint32, error) {
	v, err := s.Result(st)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return 0, nil
	}
	return uint32(v), err
}

func registrations(s *tracee.Script, known, registered tracee.Step) (uint32, error) {
	v, err := s.Result(registered)
	if err == nil {
		return uint32(v) & membarrierRegister, nil
	}
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
		return 0, err
	}
	all, err := optional(s, known)
	return all & membarrierRegister, err
}

func restore(r *kind.Restore, t *kind.Target) error {
	p, err := procfs.OpenAt(r.HostProc, t.Host.String())
	if err != nil {
		return err
	}
	defer p.Close()
	if err := setOOM(r, t, p); err != nil {
		return err
	}
	if err := setLogin(r, t, p); err != nil {
		return err
	}
	if t.TC.GetChildSubreaper() {
		// Last, since orphans go to it from then on.
		t.Late.Note(t.Late.Must(unix.SYS_PRCTL, unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "let it reap orphans")
	}
	if t.OwnsVM {
		return setMemory(t, p)
	}
	return nil
}

// setMemory is what belongs to the address space.
func setMemory(t *kind.Target, p *procfs.Proc) error {
	if f := t.Extra.GetCoredumpFilter(); t.Extra.CoredumpFilter != nil {
		if have, err := p.CoredumpFilter(); err != nil {
			return err
		} else if have != f {
			if err := p.Write("coredump_filter", fmt.Sprintf("%#x", f)); err != nil {
				return err
			}
		}
	}
	if v := t.Extra.GetThpDisabled(); v != 0 {
		t.Main.Note(t.Main.Must(unix.SYS_PRCTL, unix.PR_SET_THP_DISABLE, 1, uint64(v&^1), 0, 0), "switch huge pages off")
	}
	for cmd := uint32(1); cmd <= membarrierRegister; cmd <<= 1 {
		if t.Extra.GetMembarrier()&membarrierRegister&cmd != 0 {
			t.Main.Note(t.Main.Must(unix.SYS_MEMBARRIER, uint64(cmd), 0, 0), "register with membarrier")
		}
	}
	if t.Extra.GetMemoryMerge() {
		t.Late.Note(t.Late.Must(unix.SYS_PRCTL, prSetMemoryMerge, 1, 0, 0, 0), "let equal pages be merged (PR_SET_MEMORY_MERGE)")
	}
	if v := t.Extra.GetMdwe(); v != 0 {
		t.Late.Note(t.Late.Must(unix.SYS_PRCTL, prSetMDWE, uint64(v), 0, 0, 0), "deny memory that is written and executed")
	}
	return nil
}

func setOOM(r *kind.Restore, t *kind.Target, p *procfs.Proc) error {
	if t.TC.OomScoreAdj == nil {
		return nil
	}
	have, err := p.OOMScoreAdj()
	if err != nil {
		return err
	}
	want := int(t.TC.GetOomScoreAdj())
	if have == want {
		return nil
	}
	err = p.Write("oom_score_adj", strconv.Itoa(want))
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		r.Log.Warn("oom_score_adj not lowered", "vpid", t.VPID, "wanted", want, "stays", have, "err", err)
		return nil
	}
	return err
}

// setLogin: only a process itself may write its loginuid, and only once
// without CAP_AUDIT_CONTROL. Whoever restores and has one keeps it, for that
// is what the audit log is about.
func setLogin(r *kind.Restore, t *kind.Target, p *procfs.Proc) error {
	want := t.TC.GetLoginuid()
	if t.TC.Loginuid == nil || want == noLoginUID {
		return nil
	}
	have, known, err := p.LoginUID()
	if err != nil || !known || have == want {
		return err
	}
	if have != noLoginUID {
		r.Log.Info("audit login id is that of whoever restores", "vpid", t.VPID, "was", want, "is", have)
		return nil
	}
	f, err := p.OpenFile("loginuid", unix.O_WRONLY)
	if err != nil {
		return err
	}
	text := strconv.FormatUint(uint64(want), 10)
	fd := t.Fetch(t.Main, f)
	st := t.Main.Try(unix.SYS_WRITE, fd, t.Main.Str(text), uint64(len(text)))
	t.Drop(t.Main, fd)
	t.Check = append(t.Check, func() error {
		f.Close()
		if _, err := t.Main.Result(st); err != nil {
			r.Log.Warn("audit login id not set", "vpid", t.VPID, "wanted", want, "err", err)
		}
		return nil
	})
	return nil
}
