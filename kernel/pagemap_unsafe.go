package kernel

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Categories of pages in PAGEMAP_SCAN (include/uapi/linux/fs.h, 6.7, commit
// 52526ca7fdb9).
const (
	PageWPAllowed = 1 << iota
	PageWritten
	PageFile
	PagePresent
	PageSwapped
	PagePFNZero
	PageHuge
	PageSoftDirty
	PageGuard // 6.15
)

const pagemapScan = 0xc0606610 // _IOWR('f', 16, struct pm_scan_arg)

// PageRegion is a run of pages of the same categories, [Start, End).
type PageRegion struct {
	Start, End, Categories uint64
}

// PageQuery says which pages PagemapScan wants: those whose categories,
// flipped by Invert, hold all of Mask and one at least of AnyOf (0: does not
// matter); Return says which categories to tell.
type PageQuery struct {
	Invert, Mask, AnyOf, Return uint64
}

type pmScanArg struct {
	size, flags, start, end, walkEnd, vec, vecLen, maxPages uint64
	invert, mask, anyOf, ret                                uint64
}

// PagemapScan fills out with the regions of [start, end) that the query wants
// and returns how many they are and where to go on: end once all is scanned.
// fd is /proc/PID/pagemap.
func PagemapScan(fd uintptr, start, end uint64, q PageQuery, out []PageRegion) (n int, next uint64, err error) {
	a := pmScanArg{size: uint64(unsafe.Sizeof(pmScanArg{})), start: start, end: end,
		vec: uint64(uintptr(unsafe.Pointer(&out[0]))), vecLen: uint64(len(out)),
		invert: q.Invert, mask: q.Mask, anyOf: q.AnyOf, ret: q.Return}
	r, _, e := unix.Syscall(unix.SYS_IOCTL, fd, pagemapScan, uintptr(unsafe.Pointer(&a)))
	if e != 0 {
		return 0, start, fmt.Errorf("scan pages %#x-%#x (PAGEMAP_SCAN): %w", start, end, e)
	}
	if int(r) < len(out) {
		return int(r), end, nil // all scanned; walk_end may be stale after an inner flush of 512 entries
	}
	return int(r), a.walkEnd, nil
}
