package diff

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/image"
	"ckpt/inspect"
)

// facts are all that the image has of a process, but registers, mappings and
// contents.
func (s *side) facts(p *inspect.Process) facts {
	f := facts{}
	sum := s.summary[p.Entry.GetPid()]
	f.text("name", sum.Comm)
	f.text("command", command(sum.Command))
	f.text("executable", sum.Exe)
	f.text("working directory", sum.Cwd)
	f.text("state", sum.State)
	f.text("parent", u32(sum.VPPID))
	f.text("group", u32(sum.VPGID))
	f.text("session", u32(sum.VSID))
	if p.FS != nil {
		f.text("root directory", s.Files[p.FS.GetRootId()].GetReg().GetName())
		f.text("umask", fmt.Sprintf("%#o", p.FS.GetUmask()))
	}
	f.task(p)
	for i := range p.Threads {
		f.thread(p, &p.Threads[i])
	}
	if !p.Zombie() {
		f.message("", p.MM, only("vmas", "exe_file_id"))
	}
	for _, t := range sum.Timers {
		name := "timer " + t.Type
		if t.ID != nil {
			name += " " + u32(*t.ID)
		}
		f.text(name, armed(t.Left))
	}
	s.descriptors(f, sum)
	return f
}

// armed: how much of its time a timer has left is no difference.
func armed(left time.Duration) string {
	if left == 0 {
		return "not armed"
	}
	return "armed"
}

// timeLeft tells which fields of a task say that.
func timeLeft(path string) bool {
	switch path {
	case "timers.real.vsec", "timers.real.vusec", "timers.virt.vsec", "timers.virt.vusec", "timers.prof.vsec", "timers.prof.vusec",
		"timers.posix.vsec", "timers.posix.vnsec":
		return true
	}
	return false
}

// task adds what belongs to the process as a whole. Left out is what is told
// otherwise, and: flags (the kernel's, of what it happens to be doing), ids of
// the image's own, and which pages are the parent's.
func (f facts) task(p *inspect.Process) {
	told := only("comm", "task_state", "flags", "cg_set", "rlimits", "sigactions")
	f.message("", p.TC, func(path string) bool { return told(path) || timeLeft(path) })
	for i, l := range p.TC.GetRlimits().GetRlimits() {
		f.text("limit "+limitName(i), fmt.Sprintf("%s, at most %s", limitText(l.GetCur()), limitText(l.GetMax())))
	}
	n := 0
	for _, a := range p.TC.GetSigactions() {
		n++
		for n == int(unix.SIGKILL) || n == int(unix.SIGSTOP) { // these have none
			n++
		}
		f.text("on "+signalName(n), actionText(a.GetSigaction(), a.GetFlags(), a.GetMask()))
	}
	f.message("", p.Task, only("threads", "vmas", "cmdline", "inherited", "timers.expires_ns"))
}

func (f facts) thread(p *inspect.Process, t *inspect.Thread) {
	prefix := "thread " + u32(t.VTID)
	f.text(prefix, "there")
	if t.VTID == p.Entry.GetPid() {
		prefix = ""
	} else {
		prefix += ": "
	}
	f.message(prefix, t.Core.GetThreadCore(), only("cg_set", "seccomp_filter"))
	f.message(prefix, t.Extra, only("vtid", "xstate", "sleep_left_ns", "restart", "restart_nr"))
}

// sameRegisters tells whether a thread has not run, or came back to where it was.
func sameRegisters(a, b *inspect.Thread) bool {
	return proto.Equal(a.Core.GetThreadInfo(), b.Core.GetThreadInfo()) && string(a.Extra.GetXstate()) == string(b.Extra.GetXstate())
}

// Names of limits, in their order (RLIMIT_... of getrlimit(2)).
func limitName(i int) string {
	names := strings.Fields("CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO RTTIME")
	if i < len(names) {
		return names[i]
	}
	return strconv.Itoa(i)
}

func limitText(v uint64) string {
	if v == unix.RLIM_INFINITY {
		return "unlimited"
	}
	return strconv.FormatUint(v, 10)
}

// firstRealtime is SIGRTMIN of the kernel.
const firstRealtime = 32

func signalName(n int) string {
	if name := unix.SignalName(unix.Signal(n)); name != "" {
		return name
	}
	return fmt.Sprintf("SIGRT%d", n-firstRealtime)
}

func actionText(handler, flags, mask uint64) string {
	switch handler {
	case 0:
		return "default"
	case 1:
		return "ignore"
	}
	return fmt.Sprintf("handler %#x, flags %#x, mask %#x", handler, flags, mask)
}

func command(argv []string) string { return strings.Join(argv, " ") }

func u32(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

// descriptors adds the descriptors of a process, and who else has each.
func (s *side) descriptors(f facts, p *image.Process) {
	for _, d := range p.Files {
		name := fmt.Sprintf("fd %d", d.FD)
		f.text(name, strings.TrimSpace(d.Type+" "+lasting(d)))
		e := s.Files[d.ID]
		if e == nil {
			continue
		}
		prefix := name + ": "
		f.message(prefix, e, number)
		if x := s.Extras[d.ID]; x != nil {
			f.message(prefix, x, numberOfExtra)
		}
		if t := e.GetTfd(); t != nil {
			f.text(prefix+"timer", armed(time.Duration(t.GetVsec()|t.GetVnsec())))
		}
		f.text(prefix+"the same as", s.sameAs(d, fmt.Sprintf("pid %d %s", p.VPID, name)))
		f.text(prefix+"connected to", s.connected(e))
		f.text(prefix+"waiting", s.waiting[queueOf(e)])
	}
}
