package memfd

import (
	"cmp"
	"errors"
	"fmt"
	"os"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	memfdimg "github.com/checkpoint-restore/go-criu/v7/crit/images/memfd"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
)

// made is one memfd being restored.
type made struct {
	e     *memfdimg.MemfdInodeEntry
	inode *image.Inode
	mtime int64    // when it was last written, ns; 0: not known
	atime int64    // and read; 0: as it was written
	left  int      // descriptions still to be made
	base  *os.File // the description that memfd_create(2) made
	given bool     // base is one of those in the image
}

type restorer struct{ inodes map[uint32]*made }

func (s *restorer) restore(r *kind.Restore, e *fdinfo.FileEntry) (*os.File, error) {
	m := e.GetMemfd()
	if m == nil {
		return nil, failure.Damagedf("a memfd without its entry")
	}
	if s.inodes == nil {
		var err error
		if s.inodes, err = read(r); err != nil {
			return nil, err
		}
	}
	i := s.inodes[m.GetInodeId()]
	if i == nil {
		return nil, failure.Damagedf("memfd %d is not in %s", m.GetInodeId(), image.MemfdInode.Name(""))
	}
	if i.base == nil {
		if err := i.create(r); err != nil {
			return nil, err
		}
	}
	f, err := i.open(r, m.GetFlags())
	if i.left--; i.left <= 0 {
		i.base.Close()
	}
	if err != nil {
		return nil, err
	}
	if err := finish(r, f, m); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// open gives a description. The first that may write is the one that
// memfd_create(2) made: alone it keeps nobody from executing the file, while
// one that open(2) made does (ETXTBSY, execve(2)).
func (i *made) open(r *kind.Restore, flags uint32) (*os.File, error) {
	if i.given || flags&unix.O_PATH != 0 || flags&unix.O_ACCMODE != unix.O_RDWR {
		return r.Reopen(i.base, flags)
	}
	i.given = true
	fd, err := unix.FcntlInt(i.base.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate it: %w", err)
	}
	return kind.NewFile(fd, flags, i.base.Name())
}

func finish(r *kind.Restore, f *os.File, m *memfdimg.MemfdFileEntry) error {
	if m.GetFlags()&unix.O_PATH != 0 {
		return nil
	}
	if _, err := unix.Seek(int(f.Fd()), int64(m.GetPos()), unix.SEEK_SET); err != nil {
		return fmt.Errorf("set its position to %d: %w", m.GetPos(), err)
	}
	return r.RestoreOwner(f, m.GetFown())
}

// read gives the inodes of the image, with the number of their descriptions.
func read(r *kind.Restore) (map[uint32]*made, error) {
	out := map[uint32]*made{}
	err := image.Each(r.In, image.MemfdInode, "", func(e *memfdimg.MemfdInodeEntry, _ func(int) ([]byte, error)) error {
		out[uint32(e.GetInodeId())] = &made{e: e}
		return nil
	})
	for _, e := range r.Entries {
		m := out[e.GetMemfd().GetInodeId()]
		if e.GetMemfd() == nil || m == nil {
			continue
		}
		m.left++
		if x := r.Extras[e.GetId()]; x.GetInode() != nil {
			m.inode, m.mtime, m.atime = x.GetInode(), x.GetMtimeNs(), x.GetAtimeNs()
		}
	}
	return out, err
}

// create makes the file with its contents and all seals that can be set now.
func (i *made) create(r *kind.Restore) (err error) {
	fd, err := unix.MemfdCreate(i.e.GetName(), i.flags())
	if errors.Is(err, unix.EINVAL) { // before 6.3 every memfd was executable
		fd, err = unix.MemfdCreate(i.e.GetName(), i.flags()&^(unix.MFD_EXEC|unix.MFD_NOEXEC_SEAL))
	}
	if err != nil {
		return fmt.Errorf("make it (memfd_create): %w", err)
	}
	f := os.NewFile(uintptr(fd), prefix+i.e.GetName())
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	size := int64(i.e.GetSize())
	if err := f.Truncate(size); err != nil {
		return fmt.Errorf("make it %d bytes long: %w", size, err)
	}
	if err := loadPages(r.In, f, size, i.e.GetShmid()); err != nil {
		return err
	}
	inode := i.inode
	if inode == nil { // an image of criu's
		inode = &image.Inode{Mode: 0o777, Uid: i.e.GetUid(), Gid: i.e.GetGid()}
	}
	if err := kind.SetInode(f, inode); err != nil {
		return err
	}
	if i.mtime != 0 {
		read := cmp.Or(i.atime, i.mtime)
		if err := r.SetTimes(f, unix.NsecToTimespec(read), unix.NsecToTimespec(i.mtime)); err != nil {
			return err
		}
	}
	if now, _ := split(i.e.GetSeals()); now != 0 {
		if err := seal(f, now); err != nil {
			return err
		}
	}
	i.base = f
	return nil
}

func (i *made) flags() int {
	flags := unix.MFD_CLOEXEC | int(i.e.GetHugetlbFlag())
	// Without MFD_ALLOW_SEALING a memfd is born with F_SEAL_SEAL alone.
	if i.e.GetSeals() != unix.F_SEAL_SEAL {
		flags |= unix.MFD_ALLOW_SEALING
	}
	if i.e.GetSeals()&unix.F_SEAL_EXEC != 0 && i.inode.GetMode()&0o111 == 0 {
		return flags | unix.MFD_NOEXEC_SEAL
	}
	return flags | unix.MFD_EXEC
}

// split tells the seals to set at once from those to set when all mappings
// are made. F_SEAL_WRITE must come before them: there can be no writable
// mapping beside it, and a read-only one made earlier counts as one
// (mm/memfd.c). F_SEAL_FUTURE_WRITE must come after them: it lets writable
// ones be that existed before. F_SEAL_SEAL is the last.
func split(seals uint32) (now, late uint32) {
	if seals == unix.F_SEAL_SEAL { // has it by birth
		return 0, 0
	}
	if seals&unix.F_SEAL_FUTURE_WRITE == 0 || seals&unix.F_SEAL_WRITE != 0 {
		return seals, 0
	}
	late = seals & (unix.F_SEAL_FUTURE_WRITE | unix.F_SEAL_SEAL)
	return seals &^ late, late
}

func seal(f *os.File, seals uint32) error {
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, int(seals)); err != nil {
		return fmt.Errorf("set its seals %#x: %w", seals, err)
	}
	return nil
}

// Seals sets, when every process has its mappings, the seals that would have
// been in their way.
func Seals() kind.Process {
	var keep []*os.File // until the calls have run
	return kind.Process{
		Name:  "seals of memfds",
		Saves: "seals (F_ADD_SEALS), set once everything is mapped",
		Restore: func(r *kind.Restore, t *kind.Target) error {
			if t != first(r.Targets) {
				return nil
			}
			inodes, err := read(r)
			if err != nil {
				return err
			}
			for _, e := range r.Entries {
				i := inodes[e.GetMemfd().GetInodeId()]
				if e.GetMemfd() == nil || i == nil {
					continue
				}
				_, late := split(i.e.GetSeals())
				if late == 0 {
					continue
				}
				delete(inodes, e.GetMemfd().GetInodeId()) // once is enough
				f, err := writable(r, e.GetId())
				if err != nil {
					return err
				}
				keep = append(keep, f)
				// Taken while the process may still take from ckpt (its own
				// credentials may not), and kept, so that no other file gets
				// the number meanwhile.
				fd := t.Fetch(t.Main, f)
				t.Late.Note(t.Late.Must(unix.SYS_FCNTL, fd, unix.F_ADD_SEALS, uint64(late)), "seal "+f.Name())
				t.Late.Must(unix.SYS_CLOSE, fd)
			}
			return nil
		},
	}
}

func first(targets []*kind.Target) *kind.Target {
	for _, t := range targets {
		if !t.Zombie {
			return t
		}
	}
	return nil
}

// writable is a description that may set seals.
func writable(r *kind.Restore, id uint32) (*os.File, error) {
	f, err := r.File(id)
	if err != nil {
		return nil, err
	}
	return r.Reopen(f, unix.O_RDWR)
}
