package dump

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"ckpt/failure"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/procfs"
)

// shared are the objects of a tree that a process outside may have, too, by
// what the links and maps of /proc show of them. A restore would make each of
// them twice, and what was one would be two.
type shared struct {
	s      *session
	links  map[string][]*kind.Desc // of what goes by its link: pipes, sockets; of anonymous inodes and memfds
	memory map[object]*kind.Proc   // that no name leads to
	told   map[any]bool
}

type object struct{ dev, ino uint64 }

// sharedOutside refuses what a process outside the tree has, too: what both
// inherited from one that had it (a pipe, the memory of a pool of workers).
// Files with a name are left to both: there it is. Of processes that ckpt may
// not look at nothing is known.
func (s *session) sharedOutside() (refused []error) {
	sh := shared{s, map[string][]*kind.Desc{}, map[object]*kind.Proc{}, map[any]bool{}}
	for _, d := range s.files {
		if d.FD >= 0 && nameless(d.Link) {
			sh.links[d.Link] = append(sh.links[d.Link], d)
		}
	}
	for _, p := range s.d.Procs {
		for i := range p.Maps {
			if m := &p.Maps[i]; namelessMemory(m) {
				sh.memory[object{m.Dev, m.Ino}] = p
			}
		}
	}
	all, err := os.ReadDir("/proc")
	if err != nil {
		return []error{&failure.Error{Doing: "dump", Err: err}}
	}
	for _, e := range all {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || s.procs[pid] != nil || pid == os.Getpid() || s.hand != nil && pid == s.hand.PID {
			continue
		}
		fs, err := procfs.Open(pid)
		if err != nil {
			continue
		}
		refused = append(refused, sh.of(pid, fs)...)
		_ = fs.Close()
	}
	return refused
}

func nameless(link string) bool {
	for _, prefix := range []string{"pipe:", "socket:", "anon_inode:", memfdPrefix} {
		if strings.HasPrefix(link, prefix) {
			return true
		}
	}
	return false
}

const memfdPrefix = "/memfd:"

func namelessMemory(m *procfs.Map) bool {
	return m.Shared && m.Ino != 0 && (m.Deleted || strings.HasPrefix(m.Path, "[anon_shmem:"))
}

// of finds what a process outside shares. What it cannot read it lets be.
func (sh *shared) of(pid int, fs *procfs.Proc) (refused []error) {
	st, err := fs.Status()
	if err != nil {
		return nil
	}
	if tracer := sh.s.procs[st.TracerPid]; tracer != nil {
		refused = append(refused, sh.s.fail(tracer, "", failure.WithHint(
			failure.Unsupportedf("it traces pid %d (%s), outside the tree", pid, st.Name), "let it end that first (gdb: detach)")))
	}
	fds, err := fs.FDs()
	if err != nil {
		return refused
	}
	for _, fd := range fds {
		link, err := fs.FDLink(fd)
		if err != nil {
			continue
		}
		for _, d := range sh.links[link] {
			if !sh.told[d] && same(d, link, pid, fd, fs) {
				sh.told[d] = true
				refused = append(refused, sh.s.failFile(d, has(pid, st.Name, d.Link)))
			}
		}
	}
	if len(sh.memory) == 0 {
		return refused
	}
	maps, err := fs.MapsOnly()
	if err != nil {
		return refused
	}
	for i := range maps {
		key := object{maps[i].Dev, maps[i].Ino}
		if p := sh.memory[key]; p != nil && namelessMemory(&maps[i]) && !sh.told[key] {
			sh.told[key] = true
			refused = append(refused, sh.s.fail(p, "memory", has(pid, st.Name, "shared memory")))
		}
	}
	return refused
}

// same tells whether two descriptors with the same link are of one object.
func same(d *kind.Desc, link string, pid, fd int, fs *procfs.Proc) bool {
	switch {
	case strings.HasPrefix(link, "anon_inode:"):
		n, err := kernel.Kcmp(int(d.Proc.Lead().Host), pid, kernel.KcmpFile, d.FD, fd)
		return err == nil && n == 0
	case strings.HasPrefix(link, memfdPrefix):
		st, err := fs.FDStat(fd)
		return err == nil && st.Dev == d.Stat.Dev && st.Ino == d.Stat.Ino
	}
	return true // its number is in it
}

func has(pid int, comm, what string) error {
	return failure.WithHint(failure.Unsupportedf("%s is also held by pid %d (%s), outside the tree", what, pid, comm),
		fmt.Sprintf("give the pid of an ancestor of both, or end pid %d, before the dump", pid))
}

// sharedWithParent refuses a tree whose first process has its memory, its
// descriptors, its directories or its handlers in common with its parent, which
// is outside: one that vfork(2) made, perhaps, and that has yet to run a program.
func (s *session) sharedWithParent(root *kind.Proc) error {
	for _, o := range []struct {
		t    kernel.KcmpType
		what string
	}{
		{kernel.KcmpVM, "memory"}, {kernel.KcmpFiles, "descriptors"}, {kernel.KcmpFS, "directories"}, {kernel.KcmpSighand, "signal handlers"},
	} {
		n, err := kernel.Kcmp(int(root.Lead().Host), root.Stat.PPid, o.t, 0, 0)
		if err == nil && n == 0 {
			return s.fail(root, "", failure.WithHint(failure.Unsupportedf("it shares its %s with its parent, pid %d, outside the tree (clone(2) flags)", o.what, root.Stat.PPid),
				"give the pid of the parent, or try again when it has run a program"))
		}
	}
	return nil
}
