package image

import (
	"fmt"
	"path/filepath"
	"testing"
)

// Commit with 1 GB of pages in the page cache: what sums and writing out cost.
func BenchmarkCommitPages(b *testing.B) {
	page := make([]byte, chunk)
	for i := range page {
		page[i] = byte(i >> 3)
	}
	const size = 256 * chunk
	b.SetBytes(size)
	for b.Loop() {
		b.StopTimer()
		w, err := Create(filepath.Join(b.TempDir(), "img"), Options{})
		if err != nil {
			b.Fatal(err)
		}
		p, err := w.Pages("2")
		if err != nil {
			b.Fatal(err)
		}
		for i := range size / chunk {
			if err := p.Write(uint64(i*chunk), page); err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
		if err := w.Commit(&Manifest{}); err != nil {
			b.Fatal(err)
		}
	}
}

// Commit with the small files of a thousand processes.
func BenchmarkCommitSmallFiles(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		w, err := Create(filepath.Join(b.TempDir(), "img"), Options{})
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		for pid := range 1000 {
			for _, f := range []Format{Core, IDs, MM, FS, FDInfo, Pagemap, TaskExtra} {
				if err := w.Add(f, fmt.Sprint(pid), pstreeEntry(uint32(pid))); err != nil {
					b.Fatal(err)
				}
			}
		}
		if err := w.Commit(&Manifest{}); err != nil {
			b.Fatal(err)
		}
	}
}
