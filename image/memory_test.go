package image

import (
	"fmt"
	"path/filepath"
	"runtime"
	"testing"
)

// A dump of many processes holds nothing in memory of those that are done, though
// frames of the parent image have been decoded for each.
func TestLittleMemoryIsHeld(t *testing.T) {
	const many, pages = 100, 1 << 20 / PageSize
	tmp := t.TempDir()
	fill := func(w *Writer) {
		var b [pages * PageSize]byte
		for n := range many {
			for i := range pages {
				copy(b[i*PageSize:], fmt.Sprint("page ", i, " of ", n))
			}
			p, err := w.Pages(fmt.Sprint(n + 2))
			check(t, err)
			check(t, p.Write(0x10000, b[:]))
			check(t, p.Close())
		}
	}
	for _, o := range []Options{{}, {Compress: Fastest}} {
		before := filepath.Join(tmp, fmt.Sprint("before", o.Compress))
		w, err := Create(before, o)
		check(t, err)
		fill(w)
		check(t, w.Commit(&Manifest{}))
		o.Parent = open(t, before)
		w, err = Create(filepath.Join(tmp, fmt.Sprint("after", o.Compress)), o)
		check(t, err)
		t.Cleanup(func() { _ = w.Abort() })
		held := heap()
		fill(w)
		if held = heap() - held; held > many*pages*PageSize/4 {
			t.Errorf("%+v: %s are held", o.Compress, humanBytes(held))
		}
		if a := w.Amounts(); a.Written != 0 || a.Unchanged != many*pages*PageSize {
			t.Errorf("%+v", a)
		}
	}
}

// heap is how much memory is in use, in bytes.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
