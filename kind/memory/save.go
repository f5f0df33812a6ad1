package memory

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/kind"
	"ckpt/procfs"
	"ckpt/tracee"
)

// saver is what one dump remembers from process to process.
type saver struct {
	shmid map[object]uint32 // shared anonymous memory met so far
	done  map[uint32]bool   // shmids whose contents are written
	files map[mapped]uint32 // files met so far
	// copies stand for files that cannot be reached, see copyOf.
	copies map[object]*os.File
	asFile map[object]bool              // see opened
	rings  []ring                       // of all processes met so far
	there  map[*procfs.Map][]kind.Range // see findResident
}

// askMore asks what takes more calls than are asked beside all else.
func (s *saver) askMore(d *kind.Dump) error {
	for _, p := range d.Procs {
		if p.Zombie || p.SharesVM != nil {
			continue
		}
		if err := manyPolicies(d, p); err != nil {
			return fmt.Errorf("pid %d (%s): %w", p.VPID, p.Comm, err)
		}
	}
	return s.findResident(d)
}

// mapped is a file as it is mapped: the same one is asked for once.
type mapped struct {
	object
	path  string
	flags int
}

// object is an inode.
type object struct{ dev, ino uint64 }

// ask finds where the heap ends (only the process itself can tell) and, in
// the same go, fills mm_entry.
func (s *saver) ask(d *kind.Dump, p *kind.Proc, sc *tracee.Script) (func() error, error) {
	brk := sc.Must(unix.SYS_BRK, 0)
	area := sc.Space(1)
	keys, err := askKeys(sc, p)
	if err != nil {
		return nil, err
	}
	var asked *policies
	if maps := ownPolicies(p); p.SharesVM == nil && len(maps) <= askedAtOnce {
		asked = askPolicies(sc, maps)
	}
	return func() error {
		end, err := sc.Result(brk)
		if err != nil {
			return err
		}
		if p.SharesVM == nil {
			if err := keys.read(p); err != nil {
				return err
			}
			if p.Extra.MlockFuture, err = lockedFuture(p, area); err != nil {
				return err
			}
		}
		if err := s.describe(d, p, end); err != nil || asked == nil {
			return err
		}
		return asked.read(p)
	}, nil
}

// words are the numbers of an auxiliary vector, but for its end (AT_NULL, 0),
// which the kernel puts behind it (prctl(2), PR_SET_MM_MAP): CRIU 4.1 has room
// for 44 of them, which is what Linux gives today without.
func words(auxv []byte) []uint64 {
	var out []uint64
	for ; len(auxv) >= 16; auxv = auxv[16:] {
		tag, value := binary.LittleEndian.Uint64(auxv), binary.LittleEndian.Uint64(auxv[8:])
		if tag == 0 {
			break
		}
		out = append(out, tag, value)
	}
	return out
}

func (s *saver) describe(d *kind.Dump, p *kind.Proc, brk uint64) error {
	st := p.Lead().Stat
	m := p.MM
	m.MmStartCode, m.MmEndCode = proto.Uint64(st.StartCode), proto.Uint64(st.EndCode)
	m.MmStartData, m.MmEndData = proto.Uint64(st.StartData), proto.Uint64(st.EndData)
	m.MmStartStack, m.MmStartBrk, m.MmBrk = proto.Uint64(st.StartStack), proto.Uint64(st.StartBrk), proto.Uint64(brk)
	m.MmArgStart, m.MmArgEnd = proto.Uint64(st.ArgStart), proto.Uint64(st.ArgEnd)
	m.MmEnvStart, m.MmEnvEnd = proto.Uint64(st.EnvStart), proto.Uint64(st.EnvEnd)
	auxv, err := p.FS.Auxv()
	if err != nil {
		return err
	}
	m.MmSavedAuxv = words(auxv)
	exe, err := s.addExe(d, p)
	if err != nil {
		return err
	}
	m.ExeFileId = proto.Uint32(exe)
	for i := range p.Maps {
		v := &p.Maps[i]
		id, err := s.backing(d, p, v)
		if err != nil {
			return fmt.Errorf("mapping %#x-%#x %s: %w", v.Start, v.End, v.Path, err)
		}
		opened := s.opened(d)[object{v.Dev, v.Ino}]
		e, x := entry(v, id, opened), extra(v, opened)
		if x == nil && joinVvar(m.Vmas, e) {
			continue
		}
		m.Vmas = append(m.Vmas, e)
		if x != nil {
			p.Extra.Vmas = append(p.Extra.Vmas, x)
		}
		if isAIO(v) {
			ring, events, err := s.aioEntry(p, v)
			if err != nil {
				return err
			}
			if events != nil {
				p.Extra.AioEvents = append(p.Extra.AioEvents, events)
			}
			m.Aios = append(m.Aios, ring)
		}
	}
	return nil
}

func (s *saver) addExe(d *kind.Dump, p *kind.Proc) (uint32, error) {
	link, err := p.FS.Link("exe")
	if err != nil {
		return 0, fmt.Errorf("read its executable: %w", err)
	}
	f, err := p.FS.OpenFile("exe", unix.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		return 0, fmt.Errorf("open its executable: %w", err)
	}
	defer f.Close()
	return d.AddFile(p, f, link)
}

// backing gives the number of what stands behind a mapping: a file id, or a
// shmid, or 0.
func (s *saver) backing(d *kind.Dump, p *kind.Proc, m *procfs.Map) (uint32, error) {
	switch {
	case m.IsSpecial(), isAIO(m), isHuge(m), !m.File():
		return 0, nil
	case isSysV(m):
		return uint32(m.Ino), nil // the inode number of a SysV segment is its id (ipc/shm.c, newseg)
	case s.isShared(d, m):
		o := object{m.Dev, m.Ino}
		if s.shmid[o] == 0 {
			s.shmid[o] = d.NewID("shmem")
		}
		return s.shmid[o], nil
	case isSocket(m):
		desc, err := socketOf(d, m)
		if err != nil {
			return 0, err
		}
		return desc.ID, nil
	}
	link := m.Path
	if isAnonShared(m) {
		link = zero // which a name may hide
	}
	if m.Deleted || isAnonShared(m) {
		link += " (deleted)"
	}
	key := mapped{object{m.Dev, m.Ino}, link, openFlags(m)}
	if id, ok := s.files[key]; ok {
		return id, nil
	}
	f, err := s.openMapped(d, p, m)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	id, err := d.AddFile(p, f, link)
	if err == nil {
		s.files[key] = id
	}
	return id, err
}

// openMapped opens the file behind a mapping: through map_files, which is
// exact, open to root alone and gone with a dead leader, else by a name, or
// through a descriptor of a process (a memfd has no name).
func (s *saver) openMapped(d *kind.Dump, p *kind.Proc, m *procfs.Map) (*os.File, error) {
	flags := openFlags(m) | unix.O_CLOEXEC | unix.O_NONBLOCK
	f, err := p.FS.OpenFile(fmt.Sprintf("map_files/%x-%x", m.Start, m.End), flags)
	if err == nil {
		return f, nil
	}
	if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ESRCH) {
		return nil, err
	}
	if !m.Deleted {
		f, err := p.FS.OpenFile("root"+m.Path, flags)
		if err != nil {
			return nil, fmt.Errorf("open it: %w", err)
		}
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err == nil && st.Ino == m.Ino && sameDev(st.Dev, m.Dev) {
			return f, nil
		}
		f.Close()
	}
	for _, q := range d.Procs {
		for _, fd := range q.Fds {
			if isOf(m, fd.Desc) {
				return q.FS.OpenFD(fd.FD, flags)
			}
		}
	}
	if f := executed(d, m, flags); f != nil {
		return f, nil
	}
	if !m.Deleted {
		return nil, failure.WithHint(failure.Unsupportedf("another file stands under its name"), "run ckpt as root")
	}
	f, err = otherName(d, p, m, flags)
	if f != nil || err != nil {
		return f, err
	}
	return s.copyOf(d, m, flags)
}

// isOf tells whether a mapping is of the file behind a descriptor. Where the
// devices do not tell, the name that both were opened by has to be the same,
// too: each tmpfs counts its inodes from 1.
func isOf(m *procfs.Map, d *kind.Desc) bool {
	if d.Stat.Ino != m.Ino || d.Info.Ino != m.Ino {
		return false
	}
	return d.Stat.Dev == m.Dev || sameDev(d.Stat.Dev, m.Dev) && strings.TrimSuffix(d.Link, " (deleted)") == m.Path
}

// sameDev compares st_dev with the device of a mapping, which btrfs and
// overlayfs number differently: there it knows nothing.
func sameDev(st, m uint64) bool { return st == m || unix.Major(m) == 0 || unix.Major(st) == 0 }

// socketOf is the packet socket whose ring a mapping is. It cannot be opened,
// so a process must hold it.
func socketOf(d *kind.Dump, m *procfs.Map) (*kind.Desc, error) {
	for _, q := range d.Procs {
		for _, fd := range q.Fds {
			if fd.Desc.Link == m.Path && fd.Desc.Stat.Ino == m.Ino {
				return fd.Desc, nil
			}
		}
	}
	return nil, failure.WithHint(failure.Unsupportedf("the ring of a packet socket that no process holds as a descriptor"), "let the program unmap it before the dump")
}

// refuseSocket refuses a mapping of a socket that is no packet socket's ring.
func refuseSocket(d *kind.Dump, m *procfs.Map) error {
	if !isSocket(m) {
		return nil
	}
	desc, err := socketOf(d, m)
	if err != nil {
		return err
	}
	family, err := unix.GetsockoptInt(int(desc.File.Fd()), unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return fmt.Errorf("ask for its family (SO_DOMAIN): %w", err)
	}
	if family == unix.AF_PACKET {
		return nil
	}
	return failure.WithHint(failure.Unsupportedf("memory into which a socket receives without copying (TCP_ZEROCOPY_RECEIVE)"), "let the program unmap it before the dump")
}
