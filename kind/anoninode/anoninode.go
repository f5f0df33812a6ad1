// Package anoninode owns the descriptors that no other kind does: what has no
// place in the file system (anon_inode), namespaces, sockets of other
// families. Of all these only pidfds are carried; the others are refused, each
// with its reason. It must stand last among the kinds of files.
//
// What the kernel shows: the link names the sort; fdinfo of a pidfd has the
// process as Pid, -1 once it has been reaped. How that ended is told by
// PIDFD_GET_INFO, and which pidfds are of one process by their inode.
//
// What is saved: of a pidfd the virtual pid, status flags, owner. CRIU's
// messages of this version have no pidfd: it is an external file there.
//
// What is lost: the number of the inode. Through a pidfd of the dead leader of
// a group that goes on, the group can no longer be signalled
// (PIDFD_SIGNAL_PROCESS_GROUP), unless a unix socket tells who that was. For
// the rest see the table of refusals.
//
// Needs: pidfd_open(2) (Linux 5.3), for PIDFD_THREAD and inodes 6.9, for how
// one ended 6.15.
package anoninode

import (
	"os"
	"strings"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"

	"ckpt/failure"
	"ckpt/kind"
)

const prefix = "anon_inode:"

// Kind is everything that no kind before it owns.
func Kind() kind.File {
	return kind.File{
		Name:    "pidfd and other descriptors without a file",
		Saves:   "pidfds of processes and threads of the container, also of those that have ended",
		Refuses: "pidfds of processes outside; io_uring, userfaultfd, perf, BPF, seccomp listeners, KVM, VFIO, DMA buffers, Landlock rulesets, fsopen, O_PATH of what has no file, and whatever else has none; sockets of other families (vsock, AF_ALG, XDP, CAN, ...)",
		Needs:   "pidfd_open(2) (5.3), for threads 6.9, for how one ended 6.15",
		Type:    fdinfo.FdTypes_EXT,
		Owns:    owns,
		Refuse:  refuse,
		Dump:    dump,
		Restore: restore,
		Limits:  "the number of a pidfd's inode; that the dead leader of a group that goes on can signal it by his pidfd (PIDFD_SIGNAL_PROCESS_GROUP), unless a unix socket tells who that was",
	}
}

func owns(d *kind.Desc) bool {
	return strings.HasPrefix(d.Link, prefix) || strings.HasPrefix(d.Link, "socket:[") || strings.HasPrefix(d.Link, "pidfd:[")
}

func refuse(d *kind.Dump, desc *kind.Desc) error {
	switch {
	case desc.OnlyPath():
		return failure.WithHint(failure.Unsupportedf("%s, opened once more with O_PATH, is not carried", desc.Link), "let the program close it before the dump")
	case isPidfd(desc.Link):
		_, err := pidOf(d, desc)
		return err
	case strings.HasPrefix(desc.Link, "socket:["):
		return refuseSocket(desc)
	}
	name := strings.Trim(strings.TrimPrefix(desc.Link, prefix), "[]")
	for _, r := range refusals {
		if strings.HasPrefix(name, r.name) {
			return failure.WithHint(failure.Unsupportedf("%s", r.why), r.hint)
		}
	}
	return failure.WithHint(failure.Unsupportedf("a descriptor of sort %q, which ckpt does not know", name), "close it before the dump")
}

// refusal: name is what stands in the link, or the beginning of it.
type refusal struct{ name, why, hint string }

// refusals in the order they are tried.
var refusals = []refusal{
	{"io_uring", "an io_uring instance: requests in flight cannot be read from the kernel",
		"run the program without io_uring (UV_USE_IO_URING=0 for libuv, opcache.use_io_uring=0 for PHP), or forbid it: sysctl kernel.io_uring_disabled=2"},
	{"userfaultfd", "a userfaultfd: the pages it waits for are in the hands of another",
		"dump when the program has closed it, for example after a migration or a lazy restore has ended"},
	{"perf_event", "a perf event counter: its counts cannot be set again", "stop profiling before the dump"},
	{"bpf-map", "a BPF map: its contents belong to programs in the kernel", "unload the BPF programs before the dump"},
	{"bpf", "a BPF program or link: it is attached to the kernel", "unload the BPF programs before the dump"},
	{"fanotify", "a fanotify group that no other kind took", "close it before the dump"},
	{"inotify", "an inotify instance that no other kind took", "close it before the dump"},
	{"landlock-ruleset", "a Landlock ruleset not yet applied: its rules cannot be read", "dump once the program has applied it (landlock_restrict_self)"},
	{"seccomp notify", "a seccomp listener: system calls of other processes wait for its answers", "stop the supervisor before the dump"},
	{"kvm", "a virtual machine (KVM)", "save the machine with its own snapshot first"},
	{"vfio", "a device passed through (VFIO)", "give the device back before the dump"},
	{"dmabuf", "a buffer of a device (dma-buf)", "close what uses the GPU or camera before the dump"},
	{"sync_file", "a fence of a device (sync_file)", "close what uses the GPU before the dump"},
	{"drm", "an object of the graphics driver", "close what uses the GPU before the dump"},
	{"fscontext", "a mount being configured (fsopen)", "dump when the mount is done"},
	{"iommufd", "an IOMMU object", "give the device back before the dump"},
	{"gpio", "a GPIO line", "release it before the dump"},
	{"iio", "an industrial I/O device", "release it before the dump"},
}

func dump(d *kind.Dump, desc *kind.Desc) (*fdinfo.FileEntry, error) {
	if !isPidfd(desc.Link) || desc.OnlyPath() {
		return nil, refuse(d, desc)
	}
	return dumpPidfd(d, desc)
}

func restore(r *kind.Restore, e *fdinfo.FileEntry) (*os.File, error) {
	if x := r.Extras[e.GetId()]; x.GetPidfdVpid() == 0 && x.GetPidfdHeld() == 0 {
		return nil, failure.Unsupportedf("an external file (of a plugin of criu's)")
	}
	return restorePidfd(r, e.GetExt(), r.Extras[e.GetId()])
}
