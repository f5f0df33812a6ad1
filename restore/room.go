package restore

import (
	"fmt"
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
	threads    uint64 // below kernel.threads-max
	pids       uint64 // below kernel.pid_max
	memory     uint64 // that programs can have without others losing it, and swap
	cgroup     uint64 // below pids.max of the control group
	cgroupName string
}

func (r room) lacks(tasks, memory uint64) (refused []error) {
	add := func(free uint64, of, hint string) {
		if tasks > free {
			refused = append(refused, failure.WithHint(failure.Unsupportedf("it has %d threads, and %s leaves room for %d", tasks, of, free), hint))
		}
	}
	add(r.threads, "kernel.threads-max", "end other programs, or raise it: sysctl kernel.threads-max="+strconv.FormatUint(1<<20, 10))
	add(r.pids, "kernel.pid_max", "end other programs, or raise it: sysctl kernel.pid_max="+strconv.FormatUint(1<<22, 10))
	add(r.cgroup, "pids.max of the control group "+r.cgroupName, "raise it, or restore from another control group")
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
	r.cgroup, r.cgroupName, err = cgroupRoom()
	return r, err
}

func below(max, now uint64) uint64 { return max - min(max, now) }

// cgroupRoom is what the control groups that ckpt is in leave of processes, and
// which of them leaves least. Without a pids controller (cgroup v1, or not switched
// on) that is all there can be.
func cgroupRoom() (free uint64, name string, err error) {
	const all = 1 << 22 // PID_MAX_LIMIT
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return 0, "", err
	}
	_, path, found := strings.Cut(string(text), "0::")
	path, _, _ = strings.Cut(path, "\n")
	free = all
	for found && path != "" && path != "/" {
		dir := "/sys/fs/cgroup" + path
		max, ok := number(dir + "/pids.max")
		now, there := number(dir + "/pids.current")
		if ok && there && below(max, now) < free {
			free, name = below(max, now), path
		}
		path = path[:strings.LastIndexByte(path, '/')]
	}
	return free, name, nil
}

func number(path string) (uint64, bool) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64) // "max" is none
	return n, err == nil
}
