package registers

import (
	"encoding/binary"
	"fmt"
	"os"

	"ckpt/kind"
	"ckpt/procfs"
	"ckpt/tracee"
)

const (
	robustLimit = 2048 // ROBUST_LIST_LIMIT of the kernel's linux/futex.h
	listPI      = 1    // in an entry's address: the futex lends priority
)

// end empties a thread's list of robust futexes if one of them lies in a file
// that outlives the container: else the kernel would write into it that its
// owner has died (exit_robust_list() in kernel/futex/core.c), who is but saved.
func end(_ *kind.Dump, p *kind.Proc, t *kind.Task) error {
	head := t.Core.GetThreadCore().GetFutexRla()
	if head == 0 || t.Traced == nil {
		return nil
	}
	maps := p.Maps
	if p.SharesVM != nil {
		maps = p.SharesVM.Maps
	}
	pid := t.Traced.PID
	list := make([]byte, robustListSize)
	if err := tracee.ReadMemory(pid, head, list); err != nil {
		return nil // neither can the kernel read it
	}
	ne := binary.NativeEndian
	next, offset, pending := ne.Uint64(list), ne.Uint64(list[8:]), ne.Uint64(list[16:])
	left := pending != 0 && outlives(maps, pending&^listPI+offset)
	for range robustLimit {
		at := next &^ listPI
		if left || at == head {
			break
		}
		left = outlives(maps, at+offset)
		if err := tracee.ReadMemory(pid, at, list[:8]); err != nil {
			break
		}
		next = ne.Uint64(list)
	}
	if !left {
		return nil
	}
	empty := ne.AppendUint64(nil, head)
	empty = ne.AppendUint64(empty, offset)
	empty = ne.AppendUint64(empty, 0)
	if err := tracee.WriteMemory(pid, head, empty); err != nil {
		return fmt.Errorf("empty its list of robust futexes: %w", err)
	}
	return nil
}

// outlives tells whether what is written at an address is written into a file
// with a name.
func outlives(maps []procfs.Map, at uint64) bool {
	for i := range maps {
		if m := &maps[i]; m.Start <= at && at < m.End {
			return m.Shared && !m.Deleted && len(m.Path) > 0 && m.Path[0] == os.PathSeparator
		}
	}
	return false
}
