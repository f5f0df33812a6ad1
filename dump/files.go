package dump

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sort"
	"strings"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/procfs"
)

// objectKey is what two descriptors of one open file description always have
// in common, cheap to read; kcmp(2) decides among those that agree.
type objectKey struct {
	ino   uint64
	mntID int
	flags int
}

// collectFiles finds the open file description behind every descriptor.
// What no kind owns, or its kind refuses, is gathered, not returned at once.
func (s *session) collectFiles() (refused []error, err error) {
	for _, p := range s.d.Procs {
		if p.Zombie || p.SharesFiles != nil {
			continue
		}
		fds, err := p.FS.FDs()
		if s.endedMeanwhile(err) {
			continue
		}
		if err != nil {
			return nil, s.fail(p, "list its descriptors", err)
		}
		if p.PIDFD == nil {
			flags := pidfdFlags(p)
			fd, err := unix.PidfdOpen(int(p.Lead().Host), flags)
			if flags != 0 && errors.Is(err, unix.EINVAL) {
				refused = append(refused, s.fail(p, "its main thread", failure.WithHint(
					failure.Unsupportedf("has ended while others go on, whose descriptors are out of reach before Linux 6.9 (PIDFD_THREAD)"),
					"let the main thread wait for the others", "dump it on Linux 6.9 or later")))
				continue
			}
			if s.endedMeanwhile(err) {
				continue
			}
			if err != nil {
				return nil, s.fail(p, "open a pidfd", err)
			}
			p.PIDFD = os.NewFile(uintptr(fd), "pidfd")
		}
		for _, fd := range fds {
			d, err := s.describe(p, fd)
			if s.endedMeanwhile(err) {
				continue
			}
			if err != nil {
				return nil, s.fail(p, fmt.Sprintf("fd %d", fd), err)
			}
			p.Fds = append(p.Fds, d)
		}
	}
	for _, d := range s.files {
		refused = append(refused, s.failFile(d, s.refuse(d)))
	}
	return refused, nil
}

// pidfdFlags: a process whose leader has exited is reached through another thread.
func pidfdFlags(p *kind.Proc) int {
	if p.Lead().Host != p.Host {
		return unix.PIDFD_THREAD
	}
	return 0
}

// describe looks at descriptor fd of p: its Desc is one seen before where it
// is the same open file description, else a new one.
func (s *session) describe(p *kind.Proc, fd int) (kind.Descriptor, error) {
	info, err := p.FS.FDInfo(fd)
	if err != nil {
		return kind.Descriptor{}, err
	}
	d, err := s.description(p, fd, info)
	return kind.Descriptor{FD: fd, Cloexec: info.Flags&unix.O_CLOEXEC != 0, Desc: d}, err
}

func (s *session) description(p *kind.Proc, fd int, info *procfs.FDInfo) (*kind.Desc, error) {
	key := objectKey{info.Ino, info.MntID, info.Flags &^ unix.O_CLOEXEC}
	// kcmp(2) orders descriptions: a thousand of one file are found in ten steps.
	var failed error
	at, found := sort.Find(len(s.ordered[key]), func(i int) int {
		d := s.ordered[key][i]
		n, err := kernel.Kcmp(int(p.Lead().Host), int(d.Proc.Lead().Host), kernel.KcmpFile, fd, d.FD)
		failed = errors.Join(failed, err)
		return n
	})
	if failed != nil {
		return nil, fmt.Errorf("compare (kcmp): %w", failed)
	}
	if found {
		return s.ordered[key][at], nil
	}
	link, err := p.FS.FDLink(fd)
	if err != nil {
		return nil, err
	}
	n, err := unix.PidfdGetfd(int(p.PIDFD.Fd()), fd, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate it (pidfd_getfd): %w", err)
	}
	d := &kind.Desc{Proc: p, FD: fd, File: os.NewFile(uintptr(n), link), Link: link, Info: info}
	if err := unix.Fstat(n, &d.Stat); err != nil {
		return nil, fmt.Errorf("stat: %w", err)
	}
	s.keep(key, d)
	s.ordered[key] = slices.Insert(s.ordered[key], at, d)
	return d, nil
}

func (s *session) keep(key objectKey, d *kind.Desc) {
	d.ID = s.newID("file")
	s.files = append(s.files, d)
	s.byObject[key] = append(s.byObject[key], d)
	if s.isLog(d.Stat) {
		s.logFiles = append(s.logFiles, d.ID)
	}
}

// kindOf is the first kind that owns d.
func (s *session) kindOf(d *kind.Desc) (*kind.File, error) {
	for i := range s.kinds.Files {
		if k := &s.kinds.Files[i]; k.Owns(d) {
			return k, nil
		}
	}
	return nil, failure.Unsupportedf("%s: files of this sort are not carried", d.Link)
}

func (s *session) refuse(d *kind.Desc) error {
	k, err := s.kindOf(d)
	if err == nil && k.Refuse != nil {
		err = k.Refuse(s.d, d)
	}
	if err == nil {
		_, err = s.d.PathOwner(d) // one outside
	}
	return err
}

// saveFiles lets each kind save its descriptions, then finish, and writes
// the entries.
func (s *session) saveFiles() error {
	var refused []error
	for _, d := range s.files {
		if d.Entry == nil {
			refused = append(refused, s.failFile(d, s.saveFile(d)))
		}
	}
	if err := errors.Join(append(refused, s.saveConsole())...); err != nil {
		return err
	}
	for _, k := range s.kinds.Files {
		if k.Finish == nil {
			continue
		}
		if err := k.Finish(s.d); err != nil {
			return finishFailed(k.Name, err)
		}
	}
	for _, d := range s.files { // Finish may have added some
		if err := s.add(d.Entry); err != nil {
			return err
		}
	}
	return nil
}

// finishFailed tells of a kind's Finish, which looks at all of its files and
// says itself which it is about (kind.At).
func finishFailed(name string, err error) error {
	var out []error
	for _, err := range failure.All(err) {
		told := failure.Error{What: name, Err: err}
		if e, ok := err.(*failure.Error); ok {
			told = *e
		}
		told.Doing = "dump"
		out = append(out, &told)
	}
	return errors.Join(out...)
}

func (s *session) saveFile(d *kind.Desc) error {
	k, err := s.kindOf(d)
	if err != nil {
		return err
	}
	e, err := k.Dump(s.d, d)
	if err != nil {
		return err
	}
	e.Type, e.Id = k.Type.Enum(), proto.Uint32(d.ID)
	d.Entry = e
	return nil
}

// noDescriptor is a file that no descriptor holds.
func (s *session) noDescriptor(p *kind.Proc, f *os.File, link string) (*kind.Desc, error) {
	d := &kind.Desc{Proc: p, FD: -1, File: f, Link: link}
	if err := unix.Fstat(int(f.Fd()), &d.Stat); err != nil {
		return nil, fmt.Errorf("stat %s: %w", link, err)
	}
	var err error
	d.Info, err = s.self.FDInfo(int(f.Fd()))
	return d, err
}

// refuseFile is Dump.RefuseFile.
func (s *session) refuseFile(p *kind.Proc, f *os.File, link string) error {
	d, err := s.noDescriptor(p, f, link)
	if err != nil {
		return err
	}
	return s.refuse(d)
}

// addFile is Dump.AddFile. Who calls it says what the file is to the process.
func (s *session) addFile(p *kind.Proc, f *os.File, link string) (uint32, error) {
	d, err := s.noDescriptor(p, f, link)
	if err != nil {
		return 0, err
	}
	// The same file under the same name, whatever mount it was found through,
	// so long as that is one of the same namespace.
	key := objectKey{d.Info.Ino, -1, d.Info.Flags &^ unix.O_CLOEXEC}
	if at := s.mountSpace(d); at != nil {
		key.mntID -= int(at.id)
	}
	for _, o := range s.byObject[key] {
		if o.FD < 0 && o.Link == link && o.Stat.Dev == d.Stat.Dev && s.sameFile(o, d) {
			return o.ID, nil
		}
	}
	s.keep(key, d)
	return d.ID, s.saveFile(d)
}

// sameFile: a name and an inode make a file, but for anonymous inodes, which
// all share one; there only the very same description will do.
func (s *session) sameFile(a, b *kind.Desc) bool {
	if strings.HasPrefix(b.Link, "/") {
		return true
	}
	n, err := kernel.Kcmp(os.Getpid(), os.Getpid(), kernel.KcmpFile, int(a.File.Fd()), int(b.File.Fd()))
	return err == nil && n == 0
}

// fileID is Dump.FileID.
func (s *session) fileID(p *kind.Proc, fd int) (uint32, bool) {
	if p.SharesFiles != nil {
		p = p.SharesFiles
	}
	for _, d := range p.Fds {
		if d.FD == fd {
			return d.Desc.ID, true
		}
	}
	return 0, false
}

// writeFdinfo writes the descriptor table of p.
func (s *session) writeFdinfo(p *kind.Proc) error {
	for _, d := range p.Fds {
		flags := uint32(0)
		if d.Cloexec {
			flags = unix.FD_CLOEXEC
		}
		if err := s.out.Add(image.FDInfo, image.FDInfo.ID(uint64(p.IDs.GetFilesId())), &fdinfo.FdinfoEntry{
			Id: proto.Uint32(d.Desc.ID), Flags: proto.Uint32(flags), Type: d.Desc.Entry.Type, Fd: proto.Uint32(uint32(d.FD)),
		}); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) failFile(d *kind.Desc, err error) error {
	if err == nil {
		return nil
	}
	what := d.Link
	if d.FD >= 0 {
		what = fmt.Sprintf("fd %d", d.FD)
	}
	return s.fail(d.Proc, what, err)
}
