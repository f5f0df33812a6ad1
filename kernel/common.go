package kernel

import (
	"encoding/binary"
	"fmt"
	"io"
)

// pagemapExclusive marks a page that is mapped once (4.2, commit 77bb499bb60f).
const pagemapExclusive = 1 << 56

// MaybeCommon tells of each page from start on whether another process may have
// it, too, copy-on-write: pages of private anonymous memory that are mapped more
// than once, or swapped out.
func MaybeCommon(pagemap io.ReaderAt, start uint64, out []bool) error {
	buf := make([]byte, 8*len(out))
	if _, err := pagemap.ReadAt(buf, int64(start/pagemapPage*8)); err != nil {
		return fmt.Errorf("read pagemap from %#x on: %w", start, err)
	}
	for i := range out {
		e := binary.LittleEndian.Uint64(buf[8*i:])
		out[i] = e&pagemapSwapped != 0 || e&pagemapPresent != 0 && e&(pagemapFile|pagemapExclusive) == 0
	}
	return nil
}
