package foreign

import (
	"fmt"
	"strconv"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/core-x86"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/creds"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/criu-sa"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/mm"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/pstree"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
)

// States of task_core_entry (CRIU's image.h).
const (
	taskAlive   = 1
	taskDead    = 2
	taskStopped = 3
)

// process is one of pstree.img.
type process struct {
	entry *pstree.PstreeEntry
	cores []*criu_core.CoreEntry // of its threads, the leading one first
	ids   *criu_core.TaskKobjIdsEntry
	mm    *mm.MmEntry
}

func (p *process) tc() *criu_core.TaskCoreEntry { return p.cores[0].GetTc() }
func (p *process) comm() string                 { return p.tc().GetComm() }
func (p *process) zombie() bool                 { return p.tc().GetTaskState() == taskDead }
func (p *process) id() string                   { return image.Core.ID(uint64(p.entry.GetPid())) }

func (t *translation) loadTree() error {
	all, err := each[*pstree.PstreeEntry](t.r, image.PSTree, "")
	if err != nil {
		return err
	}
	seen := map[uint32]bool{}
	for _, e := range all {
		p := &process{entry: e}
		e.Threads = image.Threads(e)
		if err := t.load(p); err != nil {
			return err
		}
		if parent := e.GetPpid(); len(t.procs) > 0 && !seen[parent] {
			return failure.Damagedf("pstree.img: pid %d is a child of %d, which does not stand before it", e.GetPid(), parent)
		}
		seen[e.GetPid()] = true
		t.procs = append(t.procs, p)
	}
	if len(t.procs) == 0 || t.procs[0].zombie() {
		return failure.Damagedf("pstree.img does not begin with a process that lives")
	}
	return nil
}

func (t *translation) load(p *process) (err error) {
	for _, tid := range p.entry.GetThreads() {
		c, err := image.One[*criu_core.CoreEntry](t.r, image.Core, image.Core.ID(uint64(tid)))
		if err != nil {
			return err
		}
		p.cores = append(p.cores, c)
	}
	if len(p.cores) == 0 || p.entry.GetThreads()[0] != p.entry.GetPid() || p.tc() == nil {
		return failure.Damagedf("pstree.img: pid %d has no leading thread", p.entry.GetPid())
	}
	if p.zombie() {
		return nil
	}
	if p.ids, err = image.One[*criu_core.TaskKobjIdsEntry](t.r, image.IDs, p.id()); err != nil {
		return err
	}
	p.mm, err = image.One[*mm.MmEntry](t.r, image.MM, p.id())
	return err
}

// checkGroups refuses threads in several control groups: all come into those of
// whoever restores, wherever they were.
func (t *translation) checkGroups() {
	first := groupsOf(t.procs[0], 0)
	for _, p := range t.procs {
		for i := range p.cores {
			if !p.zombie() && groupsOf(p, i) != first {
				t.refuseOf(p, "", failure.WithHint(failure.Unsupportedf("it is in other control groups than the first process, which is not carried"),
					"move it to those of the first process before the dump (cgroup.procs)"))
				break
			}
		}
	}
}

// groupsOf is the set of control groups of a thread, by its number in cgroup.img;
// before CRIU 3.19 a process has one.
func groupsOf(p *process, i int) uint32 {
	if th := p.cores[i].GetThreadCore(); th.CgSet != nil {
		return th.GetCgSet()
	}
	return p.tc().GetCgSet()
}

// processes checks every process, and gives the files that ckpt has of each.
func (t *translation) processes() error {
	t.checkGroups()
	for _, p := range t.procs {
		for i, c := range p.cores {
			what := ""
			if i > 0 {
				what = fmt.Sprintf("thread %d", p.entry.GetThreads()[i])
			}
			t.refuseOf(p, what, t.checkCore(p, c))
			if err := put(t, image.Core, image.Core.ID(uint64(p.entry.GetThreads()[i])), ours(c)); err != nil {
				return err
			}
		}
		x, err := t.task(p)
		if err != nil {
			return err
		}
		if err := put(t, image.TaskExtra, p.id(), x); err != nil {
			return err
		}
		if p.zombie() {
			continue
		}
		if err := t.memory(p); err != nil {
			return err
		}
		ids := proto.CloneOf(p.ids)
		container(ids)
		if err := put(t, image.IDs, p.id(), ids); err != nil {
			return err
		}
	}
	return nil
}

// resetOnFork is SCHED_RESET_ON_FORK, which sched_getscheduler(2) adds to the
// policy, and CRIU keeps there.
const resetOnFork = 0x40000000

// ours is a core as ckpt has it: the signal mask of a leading thread stands with
// the other threads' as well, and the policy alone.
func ours(c *criu_core.CoreEntry) *criu_core.CoreEntry {
	c = proto.CloneOf(c)
	th := c.GetThreadCore()
	if th == nil {
		return c // a zombie
	}
	if tc := c.GetTc(); tc != nil {
		if th.BlkSigset == nil {
			th.BlkSigset = tc.BlkSigset
		}
		tc.Personality = proto.Uint32(personality(tc.GetPersonality()))
	}
	if th.SchedPolicy != nil {
		th.SchedPolicy = proto.Uint32(th.GetSchedPolicy() &^ resetOnFork)
	}
	return c
}

// personalities are the bits that personality(2) knows.
const personalities = 0x0ffe00ff

// personality is what CRIU means: up to 4.1.1 it reads the hexadecimal number
// of /proc/PID/personality as a decimal one.
func personality(v uint32) uint32 {
	if v&^personalities == 0 {
		return v
	}
	if n, err := strconv.ParseUint(strconv.FormatUint(uint64(v), 10), 16, 32); err == nil && n&^personalities == 0 {
		return uint32(n)
	}
	return v
}

// checkCore refuses what a core holds that is not carried.
func (t *translation) checkCore(p *process, c *criu_core.CoreEntry) error {
	tc, th := c.GetTc(), c.GetThreadCore()
	switch state := p.tc().GetTaskState(); state {
	case taskAlive, taskDead, taskStopped:
	default:
		return notCarried("it is in state %d of criu's, which is not known", state)
	}
	if tc.GetOldSeccompMode() != 0 || tc.GetOldSeccompFilter() != 0 {
		return notCarried("its seccomp filter is written as criu did before version 3.9")
	}
	if tc.GetBlkSigsetExtended() != 0 || th.GetBlkSigsetExtended() != 0 {
		return notCarried("it blocks signals above 64")
	}
	if p.zombie() {
		return nil
	}
	if c.GetMtype() != criu_core.CoreEntry_X86_64 {
		return failure.Mark(failure.ErrIncompatible, fmt.Errorf("the image is of a machine of type %s, only x86-64 is carried", c.GetMtype()))
	}
	if th == nil || th.GetCreds() == nil {
		return failure.Damagedf("it has no credentials")
	}
	if th.GetSchedPolicy()&^resetOnFork == unix.SCHED_DEADLINE {
		return notCarried("it is scheduled by deadline (SCHED_DEADLINE), of which criu has not saved the times")
	}
	if th.GetRseqEntry().GetRseqCsPointer() != 0 {
		return notCarried("it is within a sequence of rseq(2) that is not to be restarted")
	}
	for _, err := range []error{checkRegisters(c.GetThreadInfo()), checkCreds(th.GetCreds()), checkActions(tc.GetSigactions())} {
		if err != nil {
			return err
		}
	}
	return nil
}

func checkActions(all []*criu_sa.SaEntry) error {
	for i, a := range all {
		if a.GetCompatSigaction() || a.GetMaskExtended() != 0 {
			return notCarried("its handler number %d is one of a 32-bit program", i+1)
		}
	}
	return nil
}

// components are those of the extended registers that CRIU's message has a
// place for: x87, SSE, AVX, MPX, AVX-512, protection keys (Intel SDM volume 1,
// chapter 13).
const components = 0x2ff

func checkRegisters(e *core_x86.ThreadInfoX86) error {
	if e.GetGpregs() == nil || e.GetFpregs() == nil {
		return failure.Damagedf("it has no registers")
	}
	if e.GetGpregs().GetMode() != core_x86.UserX86RegsMode_NATIVE {
		return notCarried("it runs 32-bit code, which is not carried")
	}
	for _, d := range e.GetTls() {
		if !d.GetSegNotPresent() {
			return notCarried("it has a segment of set_thread_area(2), as 32-bit code has, which is not carried")
		}
	}
	x := e.GetFpregs().GetXsave()
	if more := x.GetXstateBv() &^ components; more != 0 {
		return notCarried("its extended registers hold state (XSAVE %#x) that criu has not saved", more)
	}
	if cet := part(x, fieldXsaveCET); len(cet) > 0 {
		e := &core_x86.UserX86XsaveEntry{}
		e.ProtoReflect().SetUnknown(cet)
		for _, field := range []protowire.Number{fieldCETControl, fieldCETStack} {
			for _, v := range numbers(e, field) {
				if v != 0 {
					return failure.WithHint(failure.Unsupportedf("a shadow stack (CET) is not carried"), "run the program with GLIBC_TUNABLES=glibc.cpu.x86_shstk=off")
				}
			}
		}
	}
	return nil
}

func checkCreds(e *creds.CredsEntry) error {
	for _, profile := range []string{e.GetLsmProfile(), e.GetLsmSockcreate()} {
		if profile != "" && profile != "unconfined" {
			return failure.WithHint(failure.Unsupportedf("it is confined by a security module as %q, which is not carried", profile), "dump the program unconfined")
		}
	}
	if len(e.GetApparmorData()) > 0 {
		return failure.WithHint(failure.Unsupportedf("it is confined by AppArmor, which is not carried"), "dump the program unconfined")
	}
	return nil
}

// task is ckpt-task-PID.img: what CRIU keeps in other fields. What it keeps
// nowhere (affinity, timer slack, speculation, ...) is as with a new process.
func (t *translation) task(p *process) (*image.Task, error) {
	x := &image.Task{ExitSignal: uint32(unix.SIGCHLD), StopSignal: p.tc().GetStopSigno()}
	if p.mm.GetThpDisabled() {
		x.ThpDisabled = 1
	}
	for _, v := range numbers(p.tc(), fieldCoreMembarrier) {
		x.Membarrier = uint32(v)
	}
	for i, c := range p.cores {
		th := &image.Thread{Vtid: p.entry.GetThreads()[i]}
		if c.GetThreadCore().GetSchedPolicy()&resetOnFork != 0 {
			th.SchedFlags = unix.SCHED_FLAG_RESET_ON_FORK
		}
		if e := c.GetThreadCore().GetCreds(); e != nil {
			for _, v := range numbers(e, fieldCredsNoNewPrivs) {
				th.NoNewPrivs = v != 0
			}
			for i, v := range numbers(e, fieldCredsAmbient) {
				if i > 1 || v>>32 != 0 {
					return nil, failure.Damagedf("core-%d.img: word %d of its ambient capabilities is %#x", th.GetVtid(), i, v)
				}
				th.CapAmb |= v << (32 * i)
			}
		}
		x.Threads = append(x.Threads, th)
	}
	return x, nil
}
