package kernel

import (
	"os"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Both ways of finding pages agree, but for pages of zeros.
func TestOwnPages(t *testing.T) {
	const pages = 64
	mem, err := unix.Mmap(-1, 0, pages*pagemapPage, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mem)
	if err := unix.Madvise(mem, unix.MADV_NOHUGEPAGE); err != nil {
		t.Fatal(err)
	}
	for _, p := range []int{0, 1, 2, 10, 30, 31, 63} {
		mem[p*pagemapPage] = 1
	}
	start := uint64(uintptr(unsafe.Pointer(&mem[0])))
	region := func(from, to uint64) PageRegion {
		return PageRegion{Start: start + from*pagemapPage, End: start + to*pagemapPage, Categories: PagePresent}
	}
	want := []PageRegion{region(0, 3), region(10, 11), region(30, 32), region(63, 64)}
	f, err := os.Open("/proc/self/pagemap")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	end := start + pages*pagemapPage
	ways := map[string]func(uint64, []PageRegion) (int, uint64, error){
		"scan": func(at uint64, out []PageRegion) (int, uint64, error) {
			return PagemapScan(f.Fd(), at, end, ownQuery, out)
		},
		"entries": func(at uint64, out []PageRegion) (int, uint64, error) { return ownByEntries(f, at, end, out) },
	}
	for name, way := range ways {
		for _, room := range []int{1, 2, 100} {
			var got []PageRegion
			for at := start; at < end; {
				out := make([]PageRegion, room)
				n, next, err := way(at, out)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				got, at = append(got, out[:n]...), next
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s with room for %d: got %x, want %x", name, room, got, want)
			}
		}
	}
}
