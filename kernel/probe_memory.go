package kernel

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"ckpt/failure"
)

// trySetMMMap: commit f606b77f1a9e, CONFIG_CHECKPOINT_RESTORE. Its sister
// PR_SET_MM_MAP_SIZE changes nothing.
func trySetMMMap() error {
	return absent("PR_SET_MM_MAP", mmMapSize(), unix.EINVAL)
}

// tryPagemapScan: commit 52526ca7fdb9.
func tryPagemapScan() error {
	f, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return err
	}
	defer f.Close()
	page := os.Getpagesize()
	mem, err := unix.Mmap(-1, 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("map a page: %w", err)
	}
	defer unix.Munmap(mem)
	mem[0] = 1
	at := addressOf(mem)
	out := make([]PageRegion, 1)
	n, _, err := PagemapScan(f.Fd(), at, at+uint64(page), PageQuery{Mask: PagePresent, Return: PagePresent}, out)
	if err != nil {
		return absent("PAGEMAP_SCAN", errnoOf(err), unix.ENOTTY, unix.EINVAL)
	}
	if n != 1 {
		return fmt.Errorf("PAGEMAP_SCAN does not find a page that was just written")
	}
	return nil
}

const uffdEvents = 1<<2 | 1<<3 | 1<<6 // REMAP, REMOVE, UNMAP: 4.11

// tryUffdMissing: lazy memory has to hear of what the program does to it.
func tryUffdMissing() error { return uffd("userfaultfd events", uffdFeatures(uffdEvents)) }

func uffd(what string, err error) error {
	if err == unix.EPERM {
		return failure.Unsupportedf("%s: not permitted here (vm.unprivileged_userfaultfd)", what)
	}
	return absent(what, err, unix.ENOSYS, unix.EINVAL)
}

func tryMemfd() error {
	fd, err := unix.MemfdCreate("ckpt-probe", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return absent("memfd_create", err, unix.ENOSYS)
	}
	return unix.Close(fd)
}
