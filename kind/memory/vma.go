package memory

import (
	"errors"
	"fmt"
	"strings"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/vma"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/procfs"
)

// advice ties VmFlags to the madvise(2) advice that sets them.
var advice = []struct {
	flag   string
	advice int
}{
	{"dc", unix.MADV_DONTFORK},
	{"dd", unix.MADV_DONTDUMP},
	{"mg", unix.MADV_MERGEABLE},
	{"hg", unix.MADV_HUGEPAGE},
	{"nh", unix.MADV_NOHUGEPAGE},
	{"wf", unix.MADV_WIPEONFORK},
	{"rr", unix.MADV_RANDOM},
	{"sr", unix.MADV_SEQUENTIAL},
}

// observe reads the mappings and refuses those that cannot be made again.
func observe(d *kind.Dump, p *kind.Proc) error {
	maps, err := p.FS.Maps()
	if err != nil {
		return err
	}
	p.Maps = maps
	for i := range maps {
		err := refuse(&maps[i])
		if err == nil && isSysV(&maps[i]) && p.IDs.GetIpcNsId() <= image.NamespaceID {
			err = refuseCommon(d)
		}
		if err == nil {
			err = refuseChanged(p, &maps[i])
		}
		if err == nil {
			err = errors.Join(refuseHuge(d, &maps[i]), refuseSocket(d, &maps[i]), refuseGuarded(d, p, &maps[i]))
		}
		if err != nil {
			return fmt.Errorf("mapping %#x-%#x %s: %w", maps[i].Start, maps[i].End, maps[i].Path, err)
		}
	}
	return checkCount(len(maps))
}

// refuseCommon refuses a System V segment that is not the container's own:
// everybody on the host may have it, now and after the dump.
func refuseCommon(d *kind.Dump) error {
	own, err := d.OwnNamespace("ipc")
	if err != nil || own {
		return err
	}
	return failure.WithHint(failure.Unsupportedf("a System V segment of the host, which other programs may use, too"),
		"start the program with ckpt start: in a container it has System V objects of its own", "let it detach the segment (shmdt) before the dump")
}

func refuse(m *procfs.Map) error {
	switch {
	case strings.HasPrefix(m.Path, "[uprobes"): // [uprobes-trampoline], too (6.18)
		return failure.WithHint(failure.Unsupportedf("a probe (uprobe) is set in the program, or was, and has been hit"),
			"start the program anew once the tracing tool that set it has ended")
	case m.Has("um"), m.Has("uw"), m.Has("ui"):
		return failure.WithHint(failure.Unsupportedf("registered with userfaultfd, whose pages another program provides"), "dump when the program has ended what it uses userfaultfd for")
	case m.End > taskSize && m.Path != "[vsyscall]":
		return failure.WithHint(failure.Unsupportedf("addresses of more than 47 bits are not carried"), "run the program where page tables have four levels (boot option no5lvl)")
	case m.Has("ss"):
		return failure.WithHint(failure.Unsupportedf("a shadow stack (CET) is not carried"), "run the program with GLIBC_TUNABLES=glibc.cpu.x86_shstk=off")
	case m.Has("io"), m.Has("pf"):
		if !m.IsSpecial() {
			return failure.WithHint(failure.Unsupportedf("memory of a device is not carried"), "let the program unmap the device before the dump")
		}
	case isSecret(m):
		return failure.WithHint(failure.Unsupportedf("secret memory (memfd_secret), which nobody else can read"), "let the program unmap it before the dump")
	case strings.HasPrefix(m.Path, "anon_inode:"):
		return failure.WithHint(failure.Unsupportedf("memory of %s is not carried", strings.TrimPrefix(m.Path, "anon_inode:")),
			"let the program unmap it before the dump")
	}
	return nil
}

// entry is what the image says of a mapping. file is the id in files.img, or
// the shmid of shared anonymous and SysV memory; opened: it is shared anonymous
// memory that is saved as a file.
func entry(m *procfs.Map, file uint32, opened bool) *vma.VmaEntry {
	flags, status := shape(m, opened)
	var madv uint64
	for _, a := range advice {
		if m.Has(a.flag) {
			madv |= 1 << a.advice
		}
	}
	e := &vma.VmaEntry{
		Start: proto.Uint64(m.Start), End: proto.Uint64(m.End), Pgoff: proto.Uint64(m.Offset), Shmid: proto.Uint64(uint64(file)),
		Prot: proto.Uint32(uint32(m.Prot())), Flags: proto.Uint32(flags), Status: proto.Uint32(status), Fd: proto.Int64(-1),
	}
	if madv != 0 {
		e.Madv = proto.Uint64(madv)
	}
	if status&(filePrivate|fileShared|sysvIPC) != 0 {
		e.Fdflags = proto.Uint32(uint32(openFlags(m)))
	}
	return e
}

// shape gives the mmap(2) flags and CRIU's status bits of a mapping.
func shape(m *procfs.Map, opened bool) (flags, status uint32) {
	flags, status = unix.MAP_PRIVATE, regular
	if m.Shared {
		flags = unix.MAP_SHARED
	}
	for flag, bit := range map[string]uint32{"gd": unix.MAP_GROWSDOWN, "nr": unix.MAP_NORESERVE, "lo": unix.MAP_LOCKED} {
		if m.Has(flag) {
			flags |= bit
		}
	}
	switch {
	case m.IsVDSO():
		return flags | unix.MAP_ANONYMOUS, status | vdso | anonPrivate
	case m.IsVvar():
		return flags | unix.MAP_ANONYMOUS, status | vvar | anonPrivate
	case m.Path == "[vsyscall]":
		return flags, vsyscall
	case isAIO(m):
		return flags, status | aioRing
	case isSysV(m):
		return flags | unix.MAP_ANONYMOUS, status | anonShared | sysvIPC
	case isAnonShared(m) && !opened:
		return flags | unix.MAP_ANONYMOUS | hugeFlags(m), status | anonShared
	case isHuge(m):
		return flags | unix.MAP_ANONYMOUS | hugeFlags(m), status | anonPrivate
	case m.File():
		bit := uint32(filePrivate)
		if m.Shared {
			bit = fileShared
		}
		if isMemfd(m) || opened {
			bit |= memfd
		}
		return flags, status | bit
	case m.Path == "[heap]":
		status |= heap
	case m.Path == "[stack]":
		status |= stack
	}
	return flags | unix.MAP_ANONYMOUS, status | anonPrivate
}

// lockedOnFault: mlock2(2) with MLOCK_ONFAULT. The flag has a name since 6.2
// (commit 8614d6c5eda0); before, it is the one that goes with "lo" and has none.
func lockedOnFault(m *procfs.Map) bool {
	return m.Has("lf") || m.Has("lo") && m.Has("??")
}

// extra is what vma_entry has no field for; nil where there is nothing.
func extra(m *procfs.Map, opened bool) *image.VMA {
	x := &image.VMA{Start: m.Start, OnFault: lockedOnFault(m), Droppable: m.Has("dp"), Sealed: m.Has("sl"), Name: anonName(m), ProtectionKey: uint32(m.ProtectionKey)}
	if opened {
		x.Name = "" // only memory has one
	}
	if !x.OnFault && !x.Droppable && !x.Sealed && x.Name == "" && x.ProtectionKey == 0 {
		return nil
	}
	return x
}

// extraOf is what p's image has of the mapping at start beyond its entry.
func extraOf(p *kind.Proc, start uint64) *image.VMA {
	for _, x := range p.Extra.Vmas {
		if x.GetStart() == start {
			return x
		}
	}
	x := &image.VMA{Start: start}
	p.Extra.Vmas = append(p.Extra.Vmas, x)
	return x
}

// anonName is the name that prctl(2) PR_SET_VMA_ANON_NAME gave.
func anonName(m *procfs.Map) string {
	for _, prefix := range []string{"[anon:", "[anon_shmem:"} {
		if s, ok := strings.CutPrefix(m.Path, prefix); ok {
			return strings.TrimSuffix(s, "]")
		}
	}
	return ""
}

func isAIO(m *procfs.Map) bool    { return m.Path == "/[aio]" }
func isSysV(m *procfs.Map) bool   { return m.Shared && m.Deleted && strings.HasPrefix(m.Path, "/SYSV") }
func isSecret(m *procfs.Map) bool { return m.Shared && m.Deleted && m.Path == "/secretmem" }
func isSocket(m *procfs.Map) bool { return strings.HasPrefix(m.Path, "socket:") }
func isMemfd(m *procfs.Map) bool  { return m.Deleted && strings.HasPrefix(m.Path, "/memfd:") }

// isAnonShared: mmap(2) of MAP_SHARED|MAP_ANONYMOUS, or of /dev/zero, shows as
// a deleted file of that name (with MAP_HUGETLB of another); a name given with
// PR_SET_VMA_ANON_NAME hides it.
func isAnonShared(m *procfs.Map) bool {
	return m.Shared && (m.Deleted && m.Path == zero || isHugeAnon(m) || strings.HasPrefix(m.Path, "[anon_shmem:"))
}

// openFlags are the flags a mapped file must be opened with.
func openFlags(m *procfs.Map) int {
	if m.Shared && m.Has("mw") {
		return unix.O_RDWR
	}
	return unix.O_RDONLY
}
