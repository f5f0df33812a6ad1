package procfs

import (
	"bytes"
	"fmt"
)

// Unlimited is RLIM_INFINITY.
const Unlimited = 1<<64 - 1

// Limit is one resource limit (getrlimit(2)).
type Limit struct{ Soft, Hard uint64 }

// limitNames in the order of the RLIMIT_ numbers, which is the kernel's
// printing order too (lnames in fs/proc/base.c).
var limitNames = [16]string{
	"Max cpu time", "Max file size", "Max data size", "Max stack size",
	"Max core file size", "Max resident set", "Max processes", "Max open files",
	"Max locked memory", "Max address space", "Max file locks", "Max pending signals",
	"Max msgqueue size", "Max nice priority", "Max realtime priority", "Max realtime timeout",
}

// LimitName is what limits(5) of /proc calls resource r (RLIMIT_CPU is 0).
func LimitName(r int) string { return limitNames[r] }

// Limits reads /proc/PID/limits, indexed by RLIMIT_ number. prlimit(2) would
// need CAP_SYS_RESOURCE for a process of another user.
func (p *Proc) Limits() ([16]Limit, error) {
	b, err := p.read("limits", make([]byte, 0, 2048))
	if err != nil {
		return [16]Limit{}, err
	}
	l, err := parseLimits(b)
	return l, p.parseErr("limits", err)
}

func parseLimits(b []byte) (out [16]Limit, err error) {
	var seen [16]bool
	for len(b) > 0 {
		var l []byte
		l, b = line(b)
		for i, name := range limitNames {
			rest, ok := bytes.CutPrefix(l, []byte(name+" "))
			if !ok {
				continue
			}
			soft, rest := next(rest)
			hard, _ := next(rest)
			if out[i].Soft, err = limit(soft); err == nil {
				out[i].Hard, err = limit(hard)
			}
			if err != nil {
				return out, fmt.Errorf("%s: %w", name, err)
			}
			seen[i] = true
			break
		}
	}
	for i, ok := range seen {
		if !ok {
			return out, fmt.Errorf("no line %q", limitNames[i])
		}
	}
	return out, nil
}

func limit(w []byte) (uint64, error) {
	if string(w) == "unlimited" {
		return Unlimited, nil
	}
	return uintOf(w, 10)
}
