package procfs

import (
	"bytes"
	"fmt"
)

// Stat is /proc/PID/stat, named as proc_pid_stat(5) names its fields. Clock
// ticks are 1/100 s. Without PTRACE_MODE_READ on the process, addresses and
// exit code read 0.
type Stat struct {
	Pid        int
	Comm       string // may hold blanks and parentheses; raw
	State      byte
	PPid       int
	PGrp       int
	Session    int
	TTYNr      uint64 // new_encode_dev(): see TTYMajorMinor; 0: none
	TPGid      int    // foreground group of the terminal; -1: none
	Flags      uint64 // PF_*
	UTime      uint64 // ticks
	STime      uint64
	CUTime     int64
	CSTime     int64
	Priority   int64
	Nice       int64
	NumThreads int
	StartTime  uint64 // ticks since boot, in the reader's time namespace
	VSize      uint64 // bytes
	RSS        int64  // pages
	StartCode  uint64
	EndCode    uint64
	StartStack uint64
	KstkESP    uint64
	KstkEIP    uint64
	ExitSignal int
	Processor  int
	RTPriority uint32
	Policy     uint32
	BlkIOTicks uint64
	GuestTime  uint64
	CGuestTime int64
	StartData  uint64
	EndData    uint64
	StartBrk   uint64
	ArgStart   uint64
	ArgEnd     uint64
	EnvStart   uint64
	EnvEnd     uint64
	ExitCode   int // as waitpid(2) gives it
}

// Flags of Stat.Flags (include/linux/sched.h).
const (
	PFExiting     = 0x4
	PFForkNoExec  = 0x40
	PFSuperPriv   = 0x100
	PFDumpCore    = 0x200
	PFSignaled    = 0x400
	PFKThread     = 0x200000
	PFUserWorker  = 0x4000 // a thread the kernel runs for the process: io_uring, vhost
	PFIOWorker    = 0x10
	PFNoSetAffini = 0x4000000
)

// TTYMajorMinor takes TTYNr apart.
func (s *Stat) TTYMajorMinor() (major, minor uint32) {
	return uint32(s.TTYNr>>8) & 0xfff, uint32(s.TTYNr&0xff | s.TTYNr>>12&0xfff00)
}

// Stat reads /proc/PID/stat.
func (p *Proc) Stat() (*Stat, error) {
	b, err := p.read("stat", make([]byte, 0, 1024))
	if err != nil {
		return nil, err
	}
	s, err := parseStat(b)
	return s, p.parseErr("stat", err)
}

// parseStat: the comm is whatever stands between the first "(" and the last
// ")", since it may hold both.
func parseStat(b []byte) (*Stat, error) {
	open, shut := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || shut < open {
		return nil, fmt.Errorf("no name in parentheses")
	}
	s := &Stat{Comm: string(b[open+1 : shut])}
	r := &fields{rest: b[:open]}
	s.Pid = int(r.int())
	r.rest = b[shut+1:]
	if w := r.word(); len(w) == 1 {
		s.State = w[0]
	} else if r.err == nil {
		return nil, fmt.Errorf("state %q is no letter", w)
	}
	s.PPid, s.PGrp, s.Session = int(r.int()), int(r.int()), int(r.int())
	s.TTYNr, s.TPGid, s.Flags = uint64(uint32(r.int())), int(r.int()), r.uint()
	r.skip(4) // faults
	s.UTime, s.STime, s.CUTime, s.CSTime = r.uint(), r.uint(), r.int(), r.int()
	s.Priority, s.Nice, s.NumThreads = r.int(), r.int(), int(r.int())
	r.skip(1) // itrealvalue, always 0 since 2.6.17
	s.StartTime, s.VSize, s.RSS = r.uint(), r.uint(), r.int()
	r.skip(1) // rsslim
	s.StartCode, s.EndCode, s.StartStack = r.uint(), r.uint(), r.uint()
	s.KstkESP, s.KstkEIP = r.uint(), r.uint()
	r.skip(4) // signal masks of the first 31 signals
	r.skip(3) // wchan, nswap, cnswap
	s.ExitSignal, s.Processor = int(r.int()), int(r.int())
	s.RTPriority, s.Policy = uint32(r.uint()), uint32(r.uint())
	s.BlkIOTicks, s.GuestTime, s.CGuestTime = r.uint(), r.uint(), r.int()
	s.StartData, s.EndData, s.StartBrk = r.uint(), r.uint(), r.uint()
	s.ArgStart, s.ArgEnd, s.EnvStart, s.EnvEnd = r.uint(), r.uint(), r.uint(), r.uint()
	s.ExitCode = int(r.int())
	if r.err != nil {
		return nil, r.err
	}
	return s, nil
}

// fields reads word after word and keeps the first error.
type fields struct {
	rest []byte
	n    int
	err  error
}

func (f *fields) word() []byte {
	var w []byte
	w, f.rest = next(f.rest)
	f.n++
	if len(w) == 0 && f.err == nil {
		f.err = fmt.Errorf("word %d is missing", f.n)
	}
	return w
}

func (f *fields) skip(n int) {
	for range n {
		f.word()
	}
}

func (f *fields) int() int64 {
	v, err := intOf(f.word())
	f.keep(err)
	return v
}

func (f *fields) uint() uint64 {
	v, err := uintOf(f.word(), 10)
	f.keep(err)
	return v
}

func (f *fields) keep(err error) {
	if err != nil && f.err == nil {
		f.err = fmt.Errorf("word %d: %w", f.n, err)
	}
}
