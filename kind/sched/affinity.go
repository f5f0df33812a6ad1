package sched

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kind"
)

// mostCPUs is as many as a kernel can be built for (CONFIG_NR_CPUS).
const mostCPUs = 8192

func affinityOf(tid int) (unix.CPUSetDynamic, error) {
	set := unix.NewCPUSet(mostCPUs)
	if err := unix.SchedGetaffinityDynamic(tid, set); err != nil {
		return nil, fmt.Errorf("read CPU affinity (sched_getaffinity): %w", err)
	}
	return set, nil
}

// onlineCPUs is the number of CPUs that run.
func onlineCPUs() (int, error) {
	b, err := os.ReadFile("/sys/devices/system/cpu/online")
	if err != nil {
		return 0, fmt.Errorf("read which CPUs there are: %w", err)
	}
	n := 0
	for _, r := range strings.Split(strings.TrimSpace(string(b)), ",") {
		var from, to int
		if c, _ := fmt.Sscanf(r, "%d-%d", &from, &to); c == 1 {
			to = from
		} else if c != 2 {
			return 0, fmt.Errorf("%q in /sys/devices/system/cpu/online is no range of CPUs", r)
		}
		n += to - from + 1
	}
	return n, nil
}

// restoreAffinity does it from outside and at once, since it can be
// impossible here.
func restoreAffinity(r *kind.Restore, tt *kind.TargetThread) error {
	if len(tt.Extra.GetAffinity()) == 0 {
		return nil
	}
	want := decode(tt.Extra.GetAffinity())
	err := unix.SchedSetaffinityDynamic(tt.Traced.TID, want)
	if errors.Is(err, unix.EINVAL) {
		return failure.WithHint(failure.Mark(failure.ErrIncompatible, fmt.Errorf("it may run on CPUs %s only, of which none is there", list(want))),
			"restore it on a machine, or in a cpuset, that has one of these CPUs")
	}
	if err != nil {
		return fmt.Errorf("set CPU affinity to %s (sched_setaffinity): %w", list(want), err)
	}
	got, err := affinityOf(tt.Traced.TID)
	if err != nil {
		return err
	}
	if list(got) != list(want) {
		r.Log.Warn("some CPUs that a thread may run on are not there", "thread", tt.VTID, "wanted", list(want), "set", list(got))
	}
	return nil
}

// encode is a set of CPUs as bytes, bit N%8 of byte N/8 for CPU N.
func encode(set unix.CPUSetDynamic) []byte {
	b := make([]byte, mostCPUs/8)
	for i := range mostCPUs {
		if set.IsSet(i) {
			b[i/8] |= 1 << (i % 8)
		}
	}
	return bytes.TrimRight(b, "\x00")
}

func decode(b []byte) unix.CPUSetDynamic {
	set := unix.NewCPUSet(mostCPUs)
	for i := range min(8*len(b), mostCPUs) {
		if b[i/8]>>(i%8)&1 != 0 {
			set.Set(i)
		}
	}
	return set
}

// list writes a set as "0-3,8".
func list(set unix.CPUSetDynamic) string {
	var out []string
	for i := 0; i < mostCPUs; i++ {
		if !set.IsSet(i) {
			continue
		}
		from := i
		for i+1 < mostCPUs && set.IsSet(i+1) {
			i++
		}
		if from == i {
			out = append(out, fmt.Sprint(i))
		} else {
			out = append(out, fmt.Sprintf("%d-%d", from, i))
		}
	}
	return strings.Join(out, ",")
}
