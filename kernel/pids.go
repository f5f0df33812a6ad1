package kernel

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"ckpt/procfs"
)

// reservedPIDs is RESERVED_PIDS of kernel/pid.c: numbers below are given away
// once after boot and not again.
const reservedPIDs = 300

// FreePIDs tells how many more processes and threads the pid namespace of the
// caller has numbers for, if those are fewer than enough; else it may give any
// number that is not. max is its kernel.pid_max. /proc must show this
// namespace. What others do meanwhile makes it an estimate.
func FreePIDs(enough int) (free, max int, err error) {
	if max, err = procfs.Sysctl("kernel/pid_max"); err != nil {
		return 0, 0, err
	}
	all, err := tasksOfAll()
	if err != nil {
		return 0, 0, err
	}
	if free = max - reservedPIDs - all; free >= enough {
		return free, max, nil
	}
	// Of a namespace inside another one these are not all its own: count.
	last, err := procfs.Sysctl("kernel/ns_last_pid")
	if err != nil {
		return 0, 0, err
	}
	from := 1
	if last > reservedPIDs {
		from = reservedPIDs
	}
	used, err := taskIDs(from)
	return max - from - used, max, err
}

// tasksOfAll is the number of tasks of the whole machine (proc_loadavg(5)).
func tasksOfAll() (int, error) {
	const path = "/proc/loadavg"
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b))
	if len(f) < 4 {
		return 0, fmt.Errorf("%s: %q", path, b)
	}
	_, all, _ := strings.Cut(f[3], "/")
	n, err := strconv.Atoi(all)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return n, nil
}

// taskIDs counts the threads in sight that have a number of from or above.
func taskIDs(from int) (n int, err error) {
	pids, err := numbers("/proc")
	if err != nil {
		return 0, err
	}
	for _, pid := range pids {
		tids, err := numbers(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			continue // it has ended
		}
		for _, tid := range tids {
			if tid >= from {
				n++
			}
		}
	}
	return n, nil
}

// numbers are the names in a directory that are numbers.
func numbers(dir string) (out []int, err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	for _, name := range names {
		if n, err := strconv.Atoi(name); err == nil {
			out = append(out, n)
		}
	}
	return out, err
}
