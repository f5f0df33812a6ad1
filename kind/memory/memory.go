// Package memory is the address space of a process: its mappings with their
// contents, and what the kernel knows of it (brk, stack, arguments,
// environment, auxiliary vector, executable, vDSO).
//
// # What the kernel shows
//
// /proc/PID/smaps: every mapping with its VmFlags. PAGEMAP_SCAN (6.7), or
// /proc/PID/pagemap before it: which pages differ from what the mapping would
// give by itself. /proc/PID/stat, auxv, exe. By calls of the process itself: the
// memory policy of each mapping (get_mempolicy(2)), which protection keys are
// allocated (those that pkey_alloc(2) does not give), whether memory to come is
// locked, and, for an ordinary user, what there is of shared memory (mincore(2)).
//
// # What is saved
//
// mm-VPID.img: the mappings, as CRIU lays them out. pagemap-VPID.img and its
// pages file: pages of private mappings that are not the file's own and not
// zero. Shared anonymous memory once, however many processes map it, in
// pagemap-shmem-ID.img. Mapped files, memfds and SysV segments are entries of
// their own kinds.
//
// Shared anonymous memory has no descriptor, and /proc/PID/map_files is open
// to root alone. So the container's init makes it before any process is born;
// each child inherits it, duplicates the parts it maps with mremap(2) of size
// zero (those in huge pages it moves), and drops the rest.
//
// # What is lost
//
// Where an ordinary user cannot reach a mapped file, those parts of it that
// nobody maps, and its size, owner and permissions (deleted.go).
//
// Contents of MAP_DROPPABLE mappings, which the kernel may drop at any time;
// not saving them also keeps copies from sharing vgetrandom(2) state.
//
// Pages that a process has in common with its parent, copy-on-write, are in common
// again (common.go, estate.go); those that it has with others alone, or at another
// address, or in a mapping of a memfd, become each one's own. So they do where user
// namespaces have been made inside, and where the processes share address spaces;
// and the parent's, where it has executed a program and a child shares memory, by
// other means, that it has not.
//
// The home node of a memory policy (set_mempolicy_home_node(2)), which nothing
// shows.
//
// # Needs
//
// PR_SET_MM_MAP (3.18). For shared memory in huge pages mremap(2) of these (5.16,
// commit 550a7d60bd5e). userfaultfd registrations, deleted files of hugetlbfs,
// secret memory and device memory are refused.
package memory

import (
	"os"

	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/procfs"
)

// Status bits of vma_entry (CRIU's image.h).
const (
	regular     = 1 << 0
	stack       = 1 << 1
	vsyscall    = 1 << 2
	vdso        = 1 << 3
	heap        = 1 << 5
	filePrivate = 1 << 6
	fileShared  = 1 << 7
	anonShared  = 1 << 8
	anonPrivate = 1 << 9
	sysvIPC     = 1 << 10
	vvar        = 1 << 12
	aioRing     = 1 << 13
	memfd       = 1 << 14
)

const page = 4096

// New gives the two halves: the address space, first in a process's Main
// script, and the shared anonymous memory, made before any process.
func New() (kind.Process, kind.Namespace) {
	s := &saver{shmid: map[object]uint32{}, done: map[uint32]bool{}, files: map[mapped]uint32{}, copies: map[object]*os.File{}, there: map[*procfs.Map][]kind.Range{}}
	m := &maker{at: map[uint64]kind.Range{}, estates: map[pidns.VPID]*estate{}}
	space := kind.Process{
		Name:     "memory",
		Saves:    "mappings private and shared, of files, memfd, System V segments and AIO rings, with contents and VmFlags (mlock, MADV_*), and memory policies of parts (mbind(2)); protection keys (pkeys(7)); huge pages by advice, and those of hugetlbfs, private and shared; guard pages; pages that forked processes share copy-on-write with their parent; brk, stack, arguments, environment, auxiliary vector, executable, vDSO",
		Refuses:  "memory with userfaultfd, of devices, of memfd_secret, with a shadow stack or a uprobe; addresses of more than 47 bits; more mappings than leave room for ckpt's (vm.max_map_count); a vDSO that was written to; a deleted file of hugetlbfs; memory into which a socket receives; System V segments of the host; for ordinary users guard pages in shared memory without a file, and a memfd in huge pages that is nowhere open",
		Needs:    "PR_SET_MM_MAP (3.18); for shared memory in huge pages mremap(2) of them (5.16)",
		Observe:  observeAll,
		Ask:      s.ask,
		Bulk:     s.bulk,
		Inherits: inheritsShared,
		Bequeath: m.bequeath,
		Sound:    sound,
		Restore:  m.restore,
		Limits:   "pages shared copy-on-write with others than the parent become each one's own; MAP_DROPPABLE contents are dropped; a memory policy is set only where its nodes exist, and the home node of one (set_mempolicy_home_node(2)) is not seen; AIO requests under way (io_submit) cannot be seen, and are lost, unless one ends while memory is saved: then the dump is refused",
	}
	shared := kind.Namespace{
		Name:    "shared memory",
		Saves:   "anonymous memory that processes share, once",
		Ask:     s.askMore,
		Dump:    func(*kind.Dump) error { return nil }, // saved with the first process that maps it
		Restore: m.makeShared,
		Finish:  m.dropShared,
	}
	return space, shared
}
