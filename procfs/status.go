package procfs

import (
	"bytes"
	"fmt"
)

// Status is /proc/PID/status. Sizes are in bytes. A field this kernel does
// not print is zero, but for those of which zero would be a statement: see
// HasVM and Seccomp.
type Status struct {
	Name      string // comm, with the kernel's escapes (\n, \\) undone
	Umask     uint32
	State     byte // R, S, D, T (stopped), t (tracing stop), Z, X, I
	Tgid      int
	Pid       int
	PPid      int
	TracerPid int
	Uid       [4]uint32 // real, effective, saved, file system
	Gid       [4]uint32
	FDSize    int
	Groups    []uint32

	// The ids in every pid namespace the task is in, outermost (the one
	// /proc was mounted from) first.
	NStgid, NSpid, NSpgid, NSsid []int

	Kthread bool // 6.8 and later

	HasVM                                  bool // false for a zombie and a kernel thread
	VmSize, VmLck, VmPin, VmRSS            uint64
	RssAnon, RssFile, RssShmem             uint64
	VmData, VmStk, VmExe, VmLib, VmPTE     uint64
	VmSwap, HugetlbPages                   uint64
	CoreDumping, THPEnabled                bool
	Threads                                int
	SigQ                                   int    // queued signals of this real user id
	SigPnd, ShdPnd, SigBlk, SigIgn, SigCgt uint64 // bit N-1 for signal N

	CapInh, CapPrm, CapEff, CapBnd, CapAmb uint64
	NoNewPrivs                             bool
	Seccomp                                int // SECCOMP_MODE_*: 0 none, 1 strict, 2 filter; -1: not built in
	SeccompFilters                         int // 5.9 and later
	SpeculationStoreBypass                 string
	SpeculationIndirectBranch              string
	CpusAllowed                            string // hexadecimal mask, 32 bits a comma
	CpusAllowedList                        string
	MemsAllowed                            string
	MemsAllowedList                        string

	X86ThreadFeatures string // "shstk wrss": shadow stack (6.6); "" where the kernel has none
	UntagMask         uint64 // all ones: no linear address masking (6.4); 0: not told
}

// Zombie tells whether the task has exited and waits to be reaped.
func (s *Status) Zombie() bool { return s.State == 'Z' || s.State == 'X' }

// Status reads /proc/PID/status. It costs the kernel 20 to 30 us, more than
// any other file here but smaps: read it once.
func (p *Proc) Status() (*Status, error) {
	b, err := p.Read("status")
	if err != nil {
		return nil, err
	}
	s, err := parseStatus(b)
	return s, p.parseErr("status", err)
}

func parseStatus(b []byte) (*Status, error) {
	s := &Status{Seccomp: -1}
	for len(b) > 0 {
		var l []byte
		l, b = line(b)
		i := bytes.IndexByte(l, ':')
		if i < 0 {
			continue // unknown, newer than us
		}
		key, v := l[:i], bytes.TrimLeft(l[i+1:], " \t")
		if err := s.set(key, v); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
	}
	if s.State == 0 || s.Pid == 0 {
		return nil, fmt.Errorf("text is not whole")
	}
	return s, nil
}

func (s *Status) set(key, v []byte) (err error) {
	switch string(key) {
	case "Name":
		s.Name = unescapeName(v)
	case "Umask":
		var u uint64
		u, err = uintOf(v, 8)
		s.Umask = uint32(u)
	case "State":
		if len(v) == 0 {
			return fmt.Errorf("no letter")
		}
		s.State = v[0]
	case "Tgid":
		s.Tgid, err = number(v)
	case "Pid":
		s.Pid, err = number(v)
	case "PPid":
		s.PPid, err = number(v)
	case "TracerPid":
		s.TracerPid, err = number(v)
	case "FDSize":
		s.FDSize, err = number(v)
	case "Threads":
		s.Threads, err = number(v)
	case "Kthread":
		s.Kthread = string(v) == "1"
	case "CoreDumping":
		s.CoreDumping = string(v) == "1"
	case "THP_enabled":
		s.THPEnabled = string(v) == "1"
	case "SigQ":
		n, _, _ := bytes.Cut(v, []byte("/"))
		s.SigQ, err = number(n)
	default:
		return s.setMore(key, v)
	}
	return err
}

func (s *Status) setMore(key, v []byte) (err error) {
	switch string(key) {
	case "Uid":
		return four(&s.Uid, v)
	case "Gid":
		return four(&s.Gid, v)
	case "Groups":
		s.Groups, err = uints(v)
	case "NStgid":
		s.NStgid, err = ints(v)
	case "NSpid":
		s.NSpid, err = ints(v)
	case "NSpgid":
		s.NSpgid, err = ints(v)
	case "NSsid":
		s.NSsid, err = ints(v)
	case "NoNewPrivs":
		s.NoNewPrivs = string(v) == "1"
	case "Seccomp":
		s.Seccomp, err = number(v)
	case "Seccomp_filters":
		s.SeccompFilters, err = number(v)
	case "Speculation_Store_Bypass":
		s.SpeculationStoreBypass = string(v)
	case "SpeculationIndirectBranch":
		s.SpeculationIndirectBranch = string(v)
	case "Cpus_allowed":
		s.CpusAllowed = string(v)
	case "Cpus_allowed_list":
		s.CpusAllowedList = string(v)
	case "Mems_allowed":
		s.MemsAllowed = string(v)
	case "Mems_allowed_list":
		s.MemsAllowedList = string(v)
	case "x86_Thread_features":
		s.X86ThreadFeatures = string(bytes.TrimSpace(v))
	case "untag_mask":
		s.UntagMask, err = uintOf(bytes.TrimPrefix(v, []byte("0x")), 16)
	default:
		if p := s.mask(key); p != nil {
			*p, err = uintOf(v, 16)
		} else if p := s.size(key); p != nil {
			s.HasVM = true
			*p, err = kilobytes(v)
		}
	}
	return err
}

func (s *Status) mask(key []byte) *uint64 {
	switch string(key) {
	case "SigPnd":
		return &s.SigPnd
	case "ShdPnd":
		return &s.ShdPnd
	case "SigBlk":
		return &s.SigBlk
	case "SigIgn":
		return &s.SigIgn
	case "SigCgt":
		return &s.SigCgt
	case "CapInh":
		return &s.CapInh
	case "CapPrm":
		return &s.CapPrm
	case "CapEff":
		return &s.CapEff
	case "CapBnd":
		return &s.CapBnd
	case "CapAmb":
		return &s.CapAmb
	}
	return nil
}

func (s *Status) size(key []byte) *uint64 {
	switch string(key) {
	case "VmSize":
		return &s.VmSize
	case "VmLck":
		return &s.VmLck
	case "VmPin":
		return &s.VmPin
	case "VmRSS":
		return &s.VmRSS
	case "RssAnon":
		return &s.RssAnon
	case "RssFile":
		return &s.RssFile
	case "RssShmem":
		return &s.RssShmem
	case "VmData":
		return &s.VmData
	case "VmStk":
		return &s.VmStk
	case "VmExe":
		return &s.VmExe
	case "VmLib":
		return &s.VmLib
	case "VmPTE":
		return &s.VmPTE
	case "VmSwap":
		return &s.VmSwap
	case "HugetlbPages":
		return &s.HugetlbPages
	}
	return nil
}

func number(v []byte) (int, error) {
	w, _ := next(v)
	n, err := intOf(w)
	return int(n), err
}

func four(out *[4]uint32, v []byte) error {
	u, err := uints(v)
	if err != nil {
		return err
	}
	if len(u) != 4 {
		return fmt.Errorf("%d ids instead of 4", len(u))
	}
	copy(out[:], u)
	return nil
}

func uints(v []byte) ([]uint32, error) {
	var out []uint32
	for {
		var w []byte
		if w, v = next(v); len(w) == 0 {
			return out, nil
		}
		u, err := uintOf(w, 10)
		if err != nil {
			return nil, err
		}
		if u > 1<<32-1 {
			return nil, fmt.Errorf("%q is too large", w)
		}
		out = append(out, uint32(u))
	}
}

// kilobytes reads "12 kB" into bytes.
func kilobytes(v []byte) (uint64, error) {
	w, _ := next(v)
	n, err := uintOf(w, 10)
	if err == nil && n > 1<<53 {
		return 0, fmt.Errorf("%q is too large", w)
	}
	return n << 10, err
}

// unescapeName undoes what proc_task_name() does to a comm: \n and \\ (ESCAPE_SPACE | ESCAPE_SPECIAL).
func unescapeName(b []byte) string {
	if bytes.IndexByte(b, '\\') < 0 {
		return string(b)
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		c := b[i]
		if c == '\\' && i+1 < len(b) {
			i++
			switch b[i] {
			case 'n':
				c = '\n'
			default:
				c = b[i]
			}
		}
		out = append(out, c)
	}
	return string(out)
}
