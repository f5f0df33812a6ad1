package tracee

import (
	"bytes"
	"encoding/binary"
	"os"

	"ckpt/failure"
	"ckpt/procfs"
)

// A cave is room for a block of code inside an executable mapping that is
// there already, so that ckpt never needs executable memory of its own: the
// zeros behind the vDSO's image in its last page, which is nobody's and is
// not saved; else padding of a program or library, which gets its bytes back.
// Writing makes a private copy of the page.
type cave struct {
	addr uint64
	old  []byte // what stood there
}

// caveMargin: so many zeros may still belong to what stands before a cave
// (the last section header ends in zeros, as instructions may).
const caveMargin = 64

// findCave looks for n bytes in the process with host id pid.
func findCave(pid int, maps []procfs.Map, n uint64) (cave, error) {
	if m := procfs.VDSO(maps); m != nil && m.Exec {
		if c, ok := caveIn(pid, m, n, leftover); ok {
			return c, nil
		}
	}
	for i := range maps {
		m := &maps[i]
		if m.IsSpecial() || !m.Exec || !m.Read || m.Shared || m.Ino == 0 {
			continue
		}
		if c, ok := caveIn(pid, m, n, nil); ok {
			return c, nil
		}
	}
	return cave{}, failure.WithHint(
		failure.Unsupportedf("no executable mapping of it has %d unused bytes for ckpt's code", n),
		"start it with the kernel's vDSO mapped (boot option vdso=1)")
}

// caveMost is how much of a mapping's end is searched.
const caveMost = 4 << 20

func caveIn(pid int, m *procfs.Map, n uint64, old func([]byte, uint64) (int, bool)) (cave, bool) {
	from := m.Start
	if m.Len() > caveMost {
		from = m.End - caveMost
	}
	b := make([]byte, m.End-from)
	if ReadMemory(pid, from, b) != nil {
		return cave{}, false
	}
	if old != nil {
		if at, ok := old(b, n); ok {
			return cave{addr: from + uint64(at), old: make([]byte, n)}, true
		}
	}
	at, ok := padding(b, n)
	if !ok {
		return cave{}, false
	}
	return cave{addr: from + uint64(at), old: bytes.Clone(b[at : uint64(at)+n])}, true
}

// padding finds n bytes of padding, the last ones of the mapping if it can: a
// run of zeros or of INT3, 16-aligned and a margin behind its begin.
func padding(b []byte, n uint64) (int, bool) {
	for end := len(b); uint64(end) >= n; {
		c := b[end-1]
		start := end
		for start > 0 && b[start-1] == c {
			start--
		}
		if c == 0 || c == 0xcc {
			at := (start + caveMargin + 15) &^ 15
			if at+int(n) <= end {
				return at, true
			}
		}
		end = start
	}
	return 0, false
}

// leftover finds the block of a ckpt that was killed while it worked here.
// Only one tracer can be at work in a process, so it is not in use, unless
// this very ckpt works on another process that shares the memory, or a thread
// is GoingHome.
func leftover(b []byte, n uint64) (int, bool) {
	at, ok := findBlock(b, n)
	return at, ok && binary.LittleEndian.Uint64(b[at+blockPID:]) != uint64(os.Getpid())
}

// findBlock finds a block of n bytes by its mark.
func findBlock(b []byte, n uint64) (at int, ok bool) {
	at = bytes.Index(b, []byte(blockMagic))
	return at, at >= 0 && at+int(n) <= len(b)
}

// areaMargin keeps the area away from what the program has mapped, and so
// from where the kernel will put its next mappings, or a growing stack.
const areaMargin = 64 << 20

// Where an area may be: well inside of user space, above mmap_min_addr and
// programs at fixed low addresses; or, if there is no room, wherever there is.
const (
	lowestArea, highestArea = 1 << 28, 1 << 46
	lowestRoom, highestRoom = 1 << 20, 1<<47 - 1<<21
)

// Room refuses a process that has no gap of size bytes among its mappings.
func Room(maps []procfs.Map, size uint64) error {
	_, err := findGap(maps, size)
	return err
}

// findGap finds size bytes of unused addresses, from below: the kernel gives
// out addresses from above.
func findGap(maps []procfs.Map, size uint64) (uint64, error) {
	if at, ok := gap(maps, size, areaMargin, lowestArea, highestArea); ok {
		return at, nil
	}
	if at, ok := gap(maps, size, pageSize, lowestRoom, highestRoom); ok {
		return at, nil
	}
	return 0, failure.WithHint(failure.Unsupportedf("no gap of %d kB of addresses is left among its mappings", size>>10),
		"let the program reserve less address space")
}

func gap(maps []procfs.Map, size, margin, low, high uint64) (at uint64, ok bool) {
	at = low
	for i := range maps {
		m := &maps[i]
		if m.End+margin <= at {
			continue
		}
		if m.Start >= at+size+margin || m.Start >= high {
			break
		}
		at = (m.End + margin + pageSize - 1) &^ (pageSize - 1)
	}
	return at, at+size <= high
}

const pageSize = 4096
