package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// Tasks lists the threads, ascending; a leader that exited is among them.
func (p *Proc) Tasks() ([]int, error) { return p.list("task") }

// Children lists the direct children of all threads, ascending. The kernel
// gives the truth only while the children do not come and go
// (proc_tid_children(5)); CONFIG_PROC_CHILDREN.
func (p *Proc) Children() ([]int, error) {
	if p.thread {
		return p.children("children")
	}
	tids, err := p.Tasks()
	if err != nil {
		return nil, err
	}
	var out []int
	for _, tid := range tids {
		c, err := p.children("task/" + strconv.Itoa(tid) + "/children")
		if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) && !p.exists("task/"+strconv.Itoa(tid)) {
			continue // a thread that ended meanwhile gave its children to another
		}
		if err != nil {
			return nil, err
		}
		out = append(out, c...)
	}
	slices.Sort(out)
	return out, nil
}

// Living is the id of a thread that has not exited: the process's own unless
// its leader has exited before others. What belongs to a process (its
// namespaces, its root) is not shown by a zombie. ESRCH: all have exited.
func (p *Proc) Living() (int, error) {
	tids, err := p.Tasks()
	if err != nil {
		return 0, err
	}
	for _, tid := range tids {
		th, err := p.Thread(tid)
		if errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return 0, err
		}
		st, err := th.Stat()
		_ = th.Close()
		if err == nil && st.State != 'Z' && st.State != 'X' {
			return tid, nil
		}
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return 0, err
		}
	}
	return 0, fmt.Errorf("%s has ended: %w", p.name, unix.ESRCH)
}

func (p *Proc) exists(rel string) bool {
	var st unix.Stat_t
	return unix.Fstatat(p.fd, rel, &st, 0) == nil
}

func (p *Proc) children(rel string) ([]int, error) {
	b, err := p.read(rel, make([]byte, 0, 512))
	if err != nil {
		return nil, err
	}
	out, err := ints(bytes.TrimSpace(b))
	return out, p.parseErr(rel, err)
}

// Comm is the thread's name, at most 15 bytes; the leader's of a process.
func (p *Proc) Comm() (string, error) {
	b, err := p.read("comm", make([]byte, 0, 64))
	return string(bytes.TrimSuffix(b, []byte("\n"))), err
}

// Cmdline is the argument vector as it stands in the process's memory; empty
// for a zombie.
func (p *Proc) Cmdline() ([]string, error) { return p.strings("cmdline") }

// Environ is the environment the program was started with (the stack area
// PR_SET_MM_ENV_START names), which the program may have changed.
func (p *Proc) Environ() ([]string, error) { return p.strings("environ") }

func (p *Proc) strings(rel string) ([]string, error) {
	b, err := p.Read(rel)
	if err != nil {
		return nil, err
	}
	return parseStrings(b), nil
}

func parseStrings(b []byte) []string {
	if len(b) == 0 {
		return nil
	}
	var out []string
	for _, s := range bytes.Split(bytes.TrimSuffix(b, []byte{0}), []byte{0}) {
		out = append(out, string(s))
	}
	return out
}

// Auxv is the auxiliary vector as getauxval(3) sees it, AT_NULL included: two
// words an entry.
func (p *Proc) Auxv() ([]byte, error) { return p.read("auxv", make([]byte, 0, 1024)) }

// Syscall is /proc/PID/syscall: "running", or the call a thread is blocked in:
// number, six arguments, stack pointer, program counter; "-1 sp pc" when
// blocked outside of a call. "" if not permitted (it takes PTRACE_MODE_ATTACH).
func (p *Proc) Syscall() (string, error) { return p.permitted("syscall") }

// Stack is the thread's kernel stack, a function a line; "" if not permitted
// (it takes CAP_SYS_ADMIN of the first user namespace) or not built in.
func (p *Proc) Stack() (string, error) { return p.permitted("stack") }

// Wchan is the function of the kernel that the thread sleeps in; "" if it runs
// or if that is not permitted (it takes PTRACE_MODE_READ).
func (p *Proc) Wchan() (string, error) {
	s, err := p.permitted("wchan")
	if s == "0" {
		s = ""
	}
	return s, err
}

func (p *Proc) permitted(rel string) (string, error) {
	b, err := p.read(rel, make([]byte, 0, 1024))
	switch {
	case err == nil:
		return string(bytes.TrimSuffix(b, []byte("\n"))), nil
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM), errors.Is(err, unix.ENOENT):
		return "", nil
	}
	return "", err
}

// LoginUID is the audit login uid (audit(7)), 4294967295 when it was never
// set; set is false where the kernel has no audit.
func (p *Proc) LoginUID() (uid uint32, set bool, err error) {
	b, err := p.read("loginuid", make([]byte, 0, 64))
	if errors.Is(err, unix.ENOENT) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	v, err := uintOf(bytes.TrimSpace(b), 10)
	if err != nil || v > 1<<32-1 {
		return 0, false, p.parseErr("loginuid", fmt.Errorf("%q is no uid", b))
	}
	return uint32(v), true, nil
}

// OOMScoreAdj is -1000 to 1000 (proc_pid_oom_score_adj(5)).
func (p *Proc) OOMScoreAdj() (int, error) {
	b, err := p.read("oom_score_adj", make([]byte, 0, 64))
	if err != nil {
		return 0, err
	}
	v, err := intOf(bytes.TrimSpace(b))
	return int(v), p.parseErr("oom_score_adj", err)
}

// Autogroup is the nice value of the group that all of its session is scheduled
// as (sched(7)). ok is false where it is in none, or the kernel has none
// (CONFIG_SCHED_AUTOGROUP).
func (p *Proc) Autogroup() (nice int, ok bool, err error) {
	b, err := p.read("autogroup", make([]byte, 0, 64))
	if errors.Is(err, unix.ENOENT) || err == nil && len(b) == 0 {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	nice, err = parseAutogroup(b)
	return nice, err == nil, p.parseErr("autogroup", err)
}

// parseAutogroup reads "/autogroup-1234 nice 0".
func parseAutogroup(b []byte) (int, error) {
	_, nice, ok := bytes.Cut(bytes.TrimSpace(b), []byte(" nice "))
	if !ok {
		return 0, fmt.Errorf("%q names no nice value", b)
	}
	n, err := intOf(nice)
	return int(n), err
}

// Personality is the word personality(2) set.
func (p *Proc) Personality() (uint32, error) { return p.hex("personality") }

// CoredumpFilter is the set of mappings a core dump holds (core(5)); 0 for a
// process without memory.
func (p *Proc) CoredumpFilter() (uint32, error) { return p.hex("coredump_filter") }

func (p *Proc) hex(rel string) (uint32, error) {
	b, err := p.read(rel, make([]byte, 0, 64))
	if err != nil {
		return 0, err
	}
	b = bytes.TrimSpace(b)
	if len(b) == 0 {
		return 0, nil
	}
	v, err := uintOf(b, 16)
	if err == nil && v > 1<<32-1 {
		err = fmt.Errorf("%q is too large", b)
	}
	return uint32(v), p.parseErr(rel, err)
}

// SchedExecStart is when the thread was last put on its CPU or had its run
// time counted, in nanoseconds of that CPU's scheduler clock. Clocks of
// different CPUs differ by seconds.
func (p *Proc) SchedExecStart() (uint64, error) {
	b, err := p.Read("sched")
	if err != nil {
		return 0, err
	}
	v, err := parseExecStart(b)
	return v, p.parseErr("sched", err)
}

// parseExecStart: the value is milliseconds with six decimals.
func parseExecStart(b []byte) (uint64, error) {
	const nsPerMs = 1_000_000
	for len(b) > 0 {
		var l []byte
		l, b = line(b)
		v, ok := bytes.CutPrefix(l, []byte("se.exec_start"))
		if !ok {
			continue
		}
		if v, ok = bytes.CutPrefix(bytes.TrimLeft(v, " "), []byte(":")); !ok {
			continue // the thread's name stands in the text too, unescaped
		}
		ms, frac, ok := bytes.Cut(bytes.TrimSpace(v), []byte("."))
		if !ok || len(frac) != 6 {
			return 0, fmt.Errorf("%q is not milliseconds with six decimals", l)
		}
		m, err := uintOf(ms, 10)
		if err != nil {
			return 0, err
		}
		f, err := uintOf(frac, 10)
		if err != nil {
			return 0, err
		}
		if m > (1<<64-1)/nsPerMs-1 {
			return 0, fmt.Errorf("%q is too large", ms)
		}
		return m*nsPerMs + f, nil
	}
	return 0, fmt.Errorf("no se.exec_start")
}
