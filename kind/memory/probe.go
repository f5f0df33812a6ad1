package memory

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/procfs"
	"ckpt/tracee"
)

// A probe (uprobe: perf_event_open(2), uprobe_events of tracefs) is a breakpoint
// that the kernel writes into a page of code, which so becomes each process's own
// (install_breakpoint() of kernel/events/uprobes.c). Nothing else shows it
// before it is hit. Saved with its page it would outlive the probe, and end
// whoever comes by it with SIGTRAP.

func observeAll(d *kind.Dump, p *kind.Proc) error {
	if err := observe(d, p); err != nil {
		return err
	}
	return refuseProbes(p)
}

// refuseProbes looks at the pages of code that a process has for its own. A file
// that cannot be opened (by whoever is not root, once it has no name) is not
// looked at.
func refuseProbes(p *kind.Proc) error {
	pagemap, err := p.FS.OpenFile("pagemap", os.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		return err
	}
	defer pagemap.Close()
	for i := range p.Maps {
		m := &p.Maps[i]
		if !m.File() || m.Shared || m.Prot()&unix.PROT_EXEC == 0 || m.IsSpecial() {
			continue
		}
		at, err := probeIn(p, m, pagemap)
		if err == nil && at != 0 {
			err = failure.WithHint(failure.Unsupportedf("a breakpoint stands in its code at %#x, where %s has none: a probe (uprobe) is set", at, m.Path),
				"stop the tracing tool that set it", "or start the program anew, where a debugger has left it")
		}
		if err != nil {
			return fmt.Errorf("mapping %#x-%#x %s: %w", m.Start, m.End, m.Path, err)
		}
	}
	return nil
}

// probeIn gives the address of a breakpoint; 0: there is none.
func probeIn(p *kind.Proc, m *procfs.Map, pagemap *os.File) (uint64, error) {
	regions := make([]kernel.PageRegion, 64)
	var file *os.File
	defer func() {
		if file != nil {
			file.Close()
		}
	}()
	for at := m.Start; at < m.End; {
		found, next, err := kernel.OwnPages(pagemap, at, m.End, regions)
		if err != nil {
			return 0, err
		}
		for _, r := range regions[:found] {
			if r.Categories&kernel.PageGuard != 0 {
				continue
			}
			if file == nil {
				if file = codeOf(p, m); file == nil {
					return 0, nil
				}
			}
			if hit, err := probeAmong(p, m, file, r); hit != 0 || err != nil {
				return hit, err
			}
		}
		at = next
	}
	return 0, nil
}

// codeOf opens the file behind a mapping; nil: it is out of reach.
func codeOf(p *kind.Proc, m *procfs.Map) *os.File {
	if f, err := p.FS.OpenMap(m, unix.O_RDONLY|unix.O_CLOEXEC); err == nil {
		return f
	}
	f, err := p.FS.OpenFile("root"+m.Path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK)
	if err != nil {
		return nil
	}
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil || st.Ino != m.Ino || !sameDev(st.Dev, m.Dev) {
		f.Close()
		return nil
	}
	return f
}

func probeAmong(p *kind.Proc, m *procfs.Map, file *os.File, r kernel.PageRegion) (uint64, error) {
	is, was := make([]byte, page), make([]byte, page)
	for at := r.Start; at < r.End; at += page {
		if err := tracee.ReadMemory(int(p.Lead().Host), at, is); err != nil {
			return 0, err
		}
		n, err := file.ReadAt(was, int64(m.Offset+at-m.Start))
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, fmt.Errorf("read %s: %w", m.Path, err)
		}
		if i := breakpointIn(is[:n], was[:n]); i >= 0 {
			return at + uint64(i), nil
		}
	}
	return 0, nil
}

// breakpointIn finds a breakpoint in is where was has another instruction, and
// nothing around it differs; -1: none.
func breakpointIn(is, was []byte) int {
	for i := 0; i+len(breakpoint) <= len(is); i++ {
		end := i + len(breakpoint)
		if string(is[i:end]) != breakpoint || string(was[i:end]) == breakpoint {
			continue
		}
		if (i == 0 || is[i-1] == was[i-1]) && (end == len(is) || is[end] == was[end]) {
			return i
		}
	}
	return -1
}
