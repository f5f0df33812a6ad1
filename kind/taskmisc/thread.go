package taskmisc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/kind"
	"ckpt/tracee"
)

const (
	askPersonality = 0xffffffff // personality(2): read only

	tscSIGSEGV = 2 // PR_TSC_SIGSEGV

	mceDefault = 2 // PR_MCE_KILL_DEFAULT
	mceSet     = 1 // PR_MCE_KILL_SET

	// Bits of PR_GET_SPECULATION_CTRL, and the misfeatures it numbers.
	specPrctl                              = 1 << 0 // the thread may choose
	specEnable                             = 1 << 1
	specDisable                            = 1 << 2
	specForceDisable                       = 1 << 3
	specNoExec                             = 1 << 4 // disabled until execve(2)
	specStoreBypass, specIndirect, specL1D = 0, 1, 2

	schedCoreGet = 0 // PR_SCHED_CORE_GET, of the thread itself by 0 and PIDTYPE_PID

	nodeBytes = 128 // as many nodes as a kernel can be built for: 1024
)

// asked are the steps and addresses of one thread's questions.
type asked struct {
	personality, mce, policy, cpuid, core tracee.Step
	spec                                  [3]tracee.Step
	tsc, mode, nodes, cookie              uint64
}

func askThread(_ *kind.Dump, p *kind.Proc, t *kind.Task, s *tracee.Script) (func() error, error) {
	a := asked{tsc: s.Space(4), mode: s.Space(4), nodes: s.Space(nodeBytes), cookie: s.Space(8)}
	a.personality = s.Must(unix.SYS_PERSONALITY, askPersonality)
	s.Note(a.personality, "read personality")
	s.Try(unix.SYS_PRCTL, unix.PR_GET_TSC, a.tsc, 0, 0, 0)
	a.mce = s.Try(unix.SYS_PRCTL, unix.PR_MCE_KILL_GET, 0, 0, 0, 0)
	for i := range a.spec {
		a.spec[i] = s.Try(unix.SYS_PRCTL, unix.PR_GET_SPECULATION_CTRL, uint64(i), 0, 0, 0)
	}
	a.policy = s.Try(unix.SYS_GET_MEMPOLICY, a.mode, a.nodes, nodeBytes*8+1, 0, 0)
	a.cpuid = askCPUID(s)
	a.core = s.Try(unix.SYS_PRCTL, unix.PR_SCHED_CORE, schedCoreGet, 0, 0, a.cookie)
	return func() error { return a.read(p, t, s) }, nil
}

func (a *asked) read(p *kind.Proc, t *kind.Task, s *tracee.Script) error {
	v, err := s.Result(a.personality)
	if err != nil {
		return fmt.Errorf("read personality: %w", err)
	}
	t.Extra.Personality = proto.Uint32(uint32(v))
	if t == p.Lead() {
		p.TC.Personality = proto.Uint32(uint32(v))
	}
	t.Extra.Tsc = binary.LittleEndian.Uint32(s.Bytes(a.tsc, 4))
	if v, err := s.Result(a.mce); err == nil {
		t.Extra.MceKill = proto.Uint32(uint32(v))
	}
	t.Extra.Speculation = nil
	for _, st := range a.spec {
		v, err := s.Result(st)
		if err != nil {
			v = 0 // a misfeature this CPU or kernel does not know
		}
		t.Extra.Speculation = append(t.Extra.Speculation, uint32(v))
	}
	_, err = s.Result(a.policy)
	switch {
	case err == nil:
		if t.Extra.Mempolicy = binary.LittleEndian.Uint32(s.Bytes(a.mode, 4)); t.Extra.Mempolicy != 0 {
			t.Extra.MempolicyNodes = bytes.TrimRight(bytes.Clone(s.Bytes(a.nodes, nodeBytes)), "\x00")
		}
	case !errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("read memory policy: %w", err)
	}
	if _, err := s.Result(a.core); err == nil { // else the kernel or the CPU has no such thing
		if err := checkCore(binary.LittleEndian.Uint64(s.Bytes(a.cookie, 8))); err != nil {
			return err
		}
	}
	return checkCPUID(s, a.cpuid)
}

// checkCore: the cookie is a hash that tells threads of one group from others.
func checkCore(cookie uint64) error {
	if cookie == 0 {
		return nil
	}
	return failure.WithHint(failure.Unsupportedf("it shares a CPU's core only with threads it has chosen (PR_SCHED_CORE), which is not carried"),
		"start it without core scheduling (coresched(1))")
}

func restoreThread(_ *kind.Restore, t *kind.Target, tt *kind.TargetThread) error {
	s, e := tt.Script, tt.Extra
	want := t.TC.GetPersonality()
	if e.Personality != nil {
		want = e.GetPersonality()
	}
	s.Note(s.Must(unix.SYS_PERSONALITY, uint64(want)), "set personality")
	if e.GetTsc() == tscSIGSEGV {
		s.Note(s.Must(unix.SYS_PRCTL, unix.PR_SET_TSC, tscSIGSEGV, 0, 0, 0), "forbid the time stamp counter")
	}
	if e.MceKill != nil && e.GetMceKill() != mceDefault {
		s.Note(s.Must(unix.SYS_PRCTL, unix.PR_MCE_KILL, mceSet, uint64(e.GetMceKill()), 0, 0), "set PR_MCE_KILL")
	}
	for i, v := range e.GetSpeculation() {
		if c := chosen(i, v); c != 0 {
			s.Note(s.Try(unix.SYS_PRCTL, unix.PR_SET_SPECULATION_CTRL, uint64(i), uint64(c), 0, 0), "set speculation control")
		}
	}
	if e.GetMempolicy() != 0 {
		mask := make([]byte, nodeBytes)
		copy(mask, e.GetMempolicyNodes())
		s.Note(s.Try(unix.SYS_SET_MEMPOLICY, uint64(e.GetMempolicy()), s.Data(mask), nodeBytes*8+1), "set memory policy")
	}
	return nil
}

// chosen is what a thread chose other than the default, 0: nothing. Store
// bypass and indirect branches are on by default, flushing of the L1 cache is
// off.
func chosen(which int, v uint32) uint32 {
	if v&specPrctl == 0 {
		return 0
	}
	switch which {
	case specStoreBypass, specIndirect:
		return v & (specDisable | specForceDisable | specNoExec)
	case specL1D:
		return v & specEnable
	}
	return 0
}
