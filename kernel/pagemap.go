package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Bits of an entry of /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst).
const (
	pagemapFile    = 1 << 61 // a page of a file, or of shared anonymous memory
	pagemapSwapped = 1 << 62
	pagemapPresent = 1 << 63
	pagemapPage    = 4096
)

// OwnPages finds pages of a private mapping that what is behind it would not
// give back: neither the file's own nor, since 6.7, the kernel's page of zeros,
// which nothing tells from others before; and guard pages, which are marked
// PageGuard and cannot be read. Regions of [start, end) are put into out; it
// returns how many and where to go on: end once all is looked at.
func OwnPages(pagemap *os.File, start, end uint64, out []PageRegion) (n int, next uint64, err error) {
	q := PageQuery{Invert: PageFile | PagePFNZero, Mask: PageFile | PagePFNZero,
		AnyOf: PagePresent | PageSwapped, Return: PagePresent | PageGuard}
	n, next, err = PagemapScan(pagemap.Fd(), start, end, q, out)
	if errors.Is(err, unix.EINVAL) { // before 6.15 it does not know PageGuard
		q.Return = PagePresent
		n, next, err = PagemapScan(pagemap.Fd(), start, end, q, out)
	}
	if !errors.Is(err, unix.ENOTTY) {
		return n, next, err
	}
	return ownByEntries(pagemap, start, end, out)
}

// GuardPages finds the pages that MADV_GUARD_INSTALL (6.13) has made
// inaccessible, in any mapping. It is OwnPages in all else; before 6.15 it
// finds none.
func GuardPages(pagemap *os.File, start, end uint64, out []PageRegion) (n int, next uint64, err error) {
	n, next, err = PagemapScan(pagemap.Fd(), start, end, PageQuery{Mask: PageGuard, Return: PageGuard}, out)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTTY) {
		return 0, end, nil
	}
	return n, next, err
}

// ownByEntries is OwnPages by the entries of pagemap, eight bytes a page.
func ownByEntries(pagemap io.ReaderAt, start, end uint64, out []PageRegion) (n int, next uint64, err error) {
	buf := make([]byte, 64<<10)
	for at := start; at < end; {
		b := buf[:min(uint64(len(buf)), (end-at)/pagemapPage*8)]
		if _, err := pagemap.ReadAt(b, int64(at/pagemapPage*8)); err != nil {
			return n, at, fmt.Errorf("read pagemap %#x-%#x: %w", at, end, err)
		}
		for ; len(b) > 0; b, at = b[8:], at+pagemapPage {
			e := binary.LittleEndian.Uint64(b)
			if e&pagemapFile != 0 || e&(pagemapPresent|pagemapSwapped) == 0 {
				continue
			}
			if n > 0 && out[n-1].End == at {
				out[n-1].End += pagemapPage
				continue
			}
			if n == len(out) {
				return n, at, nil
			}
			out[n] = PageRegion{Start: at, End: at + pagemapPage, Categories: PagePresent}
			n++
		}
	}
	return n, end, nil
}
