package restore

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/procfs"
)

// checkRoom tells what of processes and memory is not free here. It changes from
// moment to moment: only a check asks for it.
func (s *session) checkRoom() ([]error, error) {
	r, err := readRoom()
	if err != nil {
		return nil, err
	}
	tasks := uint64(0)
	for _, row := range s.r.Manifest.GetTable() {
		if row.GetTgid() != 0 && !row.GetZombie() {
			tasks++
		}
	}
	return r.lacks(tasks, s.r.Manifest.GetMemory()), nil
}

// room is what is free, in threads and in bytes.
type room struct {
	threads uint64 // below kernel.threads-max
	pids    uint64 // below kernel.pid_max
	memory  uint64 // that programs can have without others losing it, and swap
	groups  []group
}

// group is a control group that ckpt is in, and so is what it makes.
type group struct {
	name   string
	pids   uint64 // below its pids.max
	memory uint64 // memory.max: what is in use of it may be given back
}

func (r room) lacks(tasks, memory uint64) (refused []error) {
	add := func(free uint64, of, hint string) {
		if tasks > free {
			refused = append(refused, failure.WithHint(failure.Unsupportedf("it has %d threads, and %s leaves room for %d", tasks, of, free), hint))
		}
	}
	add(r.threads, "kernel.threads-max", "end other programs, or raise it: sysctl kernel.threads-max="+strconv.FormatUint(1<<20, 10))
	add(r.pids, "kernel.pid_max", "end other programs, or raise it: sysctl kernel.pid_max="+strconv.FormatUint(1<<22, 10))
	for _, g := range r.groups {
		add(g.pids, "pids.max of the control group "+g.name, "raise it, or restore from another control group")
		if memory > g.memory {
			refused = append(refused, failure.WithHint(failure.Unsupportedf("its memory is %s, and memory.max of the control group %s is %s", megabytes(memory), g.name, megabytes(g.memory)),
				"raise it, or restore from another control group"))
		}
	}
	if memory > r.memory {
		refused = append(refused, failure.WithHint(failure.Unsupportedf("its memory is %s, and %s are free", megabytes(memory), megabytes(r.memory)),
			"end other programs, or add swap (swapon)"))
	}
	return refused
}

func megabytes(n uint64) string { return fmt.Sprintf("%d MB", (n+500_000)/1_000_000) }

func readRoom() (r room, err error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return r, fmt.Errorf("sysinfo: %w", err)
	}
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return r, err
	}
	m := procfs.Meminfo(string(text))
	r.memory = m["MemAvailable"] + m["SwapFree"]
	for _, l := range []struct {
		free *uint64
		name string
	}{{&r.threads, "kernel/threads-max"}, {&r.pids, "kernel/pid_max"}} {
		max, err := procfs.Sysctl(l.name)
		if err != nil {
			return r, err
		}
		*l.free = below(uint64(max), uint64(info.Procs))
	}
	r.groups, err = readGroups()
	return r, err
}

func below(max, now uint64) uint64 { return max - min(max, now) }

// readGroups reads the control groups that ckpt is in, the innermost first. Those of
// version 1 are not looked at.
func readGroups() (out []group, err error) {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	_, path, _ := strings.Cut(string(text), "0::")
	path, _, _ = strings.Cut(path, "\n")
	for ; path != "" && path != "/"; path = path[:strings.LastIndexByte(path, '/')] {
		g := group{path, math.MaxUint64, math.MaxUint64}
		dir := "/sys/fs/cgroup" + path
		max, limited := number(dir + "/pids.max")
		if now, ok := number(dir + "/pids.current"); ok && limited {
			g.pids = below(max, now)
		}
		if max, ok := number(dir + "/memory.max"); ok {
			g.memory = max
		}
		out = append(out, g)
	}
	return out, nil
}

func number(path string) (uint64, bool) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64) // "max" is none
	return n, err == nil
}
