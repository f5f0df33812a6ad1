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
			n, next, err := OwnPages(f, at, end, out)
			return n, next, err
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

// Guard pages are told from pages with contents, in private and in shared
// memory; a kernel that cannot tell (before 6.15) has none to show.
func TestGuardPages(t *testing.T) {
	told := newer(t, "6.15")
	const guard = 102 // MADV_GUARD_INSTALL
	for name, flags := range map[string]int{"private": unix.MAP_PRIVATE, "shared": unix.MAP_SHARED} {
		mem, err := unix.Mmap(-1, 0, 16*pagemapPage, unix.PROT_READ|unix.PROT_WRITE, flags|unix.MAP_ANONYMOUS)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Munmap(mem)
		mem[0], mem[3*pagemapPage] = 1, 1
		if told {
			if err := unix.Madvise(mem[pagemapPage:3*pagemapPage], guard); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		f, err := os.Open("/proc/self/pagemap")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		start := uint64(uintptr(unsafe.Pointer(&mem[0])))
		find := GuardPages
		if flags == unix.MAP_PRIVATE {
			find = func(f *os.File, start, end uint64, out []PageRegion) (int, uint64, error) {
				n, next, err := OwnPages(f, start, end, out)
				return n, next, err
			}
		}
		out := make([]PageRegion, 16)
		n, next, err := find(f, start, start+uint64(len(mem)), out)
		if err != nil || next != start+uint64(len(mem)) {
			t.Fatalf("%s: next %#x, %v", name, next, err)
		}
		got := slices.DeleteFunc(out[:n], func(r PageRegion) bool { return r.Categories&PageGuard == 0 })
		var want []PageRegion
		if told {
			want = []PageRegion{{Start: start + pagemapPage, End: start + 3*pagemapPage, Categories: PageGuard}}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %x, want %x", name, got, want)
		}
	}
}
