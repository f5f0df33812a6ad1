// Package kindtest tests kinds of files against the real kernel without a
// container: the test process plays the container's one process, under
// another virtual pid than its own, and gets the restored files itself.
//
//	restored := kindtest.File(t, eventfd.Kind, f)
//
// saves f, checks that saving is repeatable, changes nothing and leaks no
// descriptor, restores from the image and hands over the new file, which the
// test then compares with the old. Where more is needed (several kinds, a
// refusal, a changed world between dump and restore) use a Box.
//
// Inside hooks need a process of their own and are not run.
package kindtest

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/image"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/procfs"
)

// VPID is the test process's number in its pretended container.
const VPID pidns.VPID = 7007

// Box is the pretended container.
type Box struct {
	// Kinds made anew for every dump and restore, in the order of Owns.
	Kinds []func() kind.File
	// OnDump and OnRestore may change what the kinds get to see. May be nil.
	OnDump    func(*kind.Dump)
	OnRestore func(*kind.Restore)

	t    testing.TB
	tmp  string
	runs int
}

// New makes a Box for kinds.
func New(t testing.TB, kinds ...func() kind.File) *Box {
	t.Helper()
	// Go's poller opens descriptors of its own when first used: before anything is counted.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	w.Close()
	return &Box{Kinds: kinds, t: t, tmp: t.TempDir()}
}

// File takes files through a dump and a restore of one kind, in their order.
func File(t testing.TB, k func() kind.File, files ...*os.File) []*os.File {
	t.Helper()
	b := New(t, k)
	return b.Restore(b.Dump(files...))
}

// Refused gives the error with which the kind refuses f, from Refuse or else
// from the dump; the test fails when there is none.
func Refused(t testing.TB, k func() kind.File, files ...*os.File) error {
	t.Helper()
	b := New(t, k)
	_, err := b.Try(files...)
	if err == nil {
		t.Fatalf("%s: saved, but should have been refused", k().Name)
	}
	return err
}

// run is one dump under way.
type run struct {
	box   *Box
	d     *kind.Dump
	kinds []kind.File
	descs []*kind.Desc
	ids   map[string]uint32
	self  *procfs.Proc
}

func (b *Box) newRun(out *image.Writer) (*run, error) {
	self, err := procfs.Open(os.Getpid())
	if err != nil {
		return nil, err
	}
	pidfd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		self.Close()
		return nil, err
	}
	host := pidns.HostPID(os.Getpid())
	r := &run{box: b, ids: map[string]uint32{}, self: self}
	p := &kind.Proc{VPID: VPID, Host: host, PGID: VPID, SID: VPID, Comm: "test", FS: self, PIDFD: os.NewFile(uintptr(pidfd), "pidfd")}
	for _, k := range b.Kinds {
		r.kinds = append(r.kinds, k())
	}
	r.d = &kind.Dump{
		Log: slog.New(slog.DiscardHandler), Out: out, Procs: []*kind.Proc{p}, Home: host, Privileged: os.Geteuid() == 0, SuspendsSeccomp: os.Geteuid() == 0,
		HostPID: func(v pidns.VPID) (pidns.HostPID, bool) { return host, v == VPID },
		VPID:    func(h pidns.HostPID) (pidns.VPID, bool) { return VPID, h == host },
		NewID:   func(what string) uint32 { r.ids[what]++; return r.ids[what] },
		IsLog:   func(unix.Stat_t) bool { return false },
		FileID:  r.fileID,
		AddFile: r.addFile,
	}
	if b.OnDump != nil {
		b.OnDump(r.d)
	}
	return r, nil
}

func (r *run) close() {
	for _, d := range r.descs {
		if d.FD >= 0 {
			d.File.Close()
		}
	}
	r.d.Procs[0].PIDFD.Close()
	r.self.Close()
}

func (r *run) fileID(_ *kind.Proc, fd int) (uint32, bool) {
	for _, d := range r.d.Procs[0].Fds {
		if d.FD == fd {
			return d.Desc.ID, true
		}
	}
	return 0, false
}

// collect describes files as a driver does: a descriptor of their own each.
func (r *run) collect(files []*os.File) error {
	p := r.d.Procs[0]
	for _, f := range files {
		fd := int(f.Fd())
		info, err := r.self.FDInfo(fd)
		if err != nil {
			return err
		}
		link, err := r.self.FDLink(fd)
		if err != nil {
			return err
		}
		n, err := unix.PidfdGetfd(int(p.PIDFD.Fd()), fd, 0)
		if err != nil {
			return fmt.Errorf("pidfd_getfd: %w", err)
		}
		d := &kind.Desc{ID: r.d.NewID("file"), Proc: p, FD: fd, File: os.NewFile(uintptr(n), link), Link: link, Info: info}
		if err := unix.Fstat(n, &d.Stat); err != nil {
			return err
		}
		r.descs = append(r.descs, d)
		p.Fds = append(p.Fds, kind.Descriptor{FD: fd, Cloexec: info.Flags&unix.O_CLOEXEC != 0, Desc: d})
	}
	return nil
}

func (r *run) addFile(p *kind.Proc, f *os.File, link string) (uint32, error) {
	d := &kind.Desc{Proc: p, FD: -1, File: f, Link: link}
	if err := unix.Fstat(int(f.Fd()), &d.Stat); err != nil {
		return 0, err
	}
	info, err := r.self.FDInfo(int(f.Fd()))
	if err != nil {
		return 0, err
	}
	d.Info = info
	for _, o := range r.descs {
		if o.FD < 0 && o.Link == link && o.Stat.Ino == d.Stat.Ino && o.Info.Flags == info.Flags {
			return o.ID, nil
		}
	}
	d.ID = r.d.NewID("file")
	r.descs = append(r.descs, d)
	return d.ID, r.save(d)
}

func (r *run) owner(d *kind.Desc) (*kind.File, error) {
	for i := range r.kinds {
		if r.kinds[i].Owns(d) {
			return &r.kinds[i], nil
		}
	}
	return nil, fmt.Errorf("%s: no kind owns it", d.Link)
}

func (r *run) save(d *kind.Desc) error {
	k, err := r.owner(d)
	if err != nil {
		return err
	}
	e, err := k.Dump(r.d, d)
	if err != nil {
		return err
	}
	e.Type, e.Id = k.Type.Enum(), proto.Uint32(d.ID)
	d.Entry = e
	return nil
}

// all refuses, saves and finishes, then writes files.img.
func (r *run) all(files []*os.File) error {
	if err := r.collect(files); err != nil {
		return err
	}
	for _, d := range r.descs {
		k, err := r.owner(d)
		if err == nil && k.Refuse != nil {
			err = k.Refuse(r.d, d)
		}
		if err != nil {
			return err
		}
	}
	for _, d := range r.descs {
		if d.Entry == nil {
			if err := r.save(d); err != nil {
				return err
			}
		}
	}
	for _, k := range r.kinds {
		if k.Finish != nil {
			if err := k.Finish(r.d); err != nil {
				return err
			}
		}
	}
	for _, d := range r.descs {
		if err := r.d.Out.Add(image.Files, "", d.Entry); err != nil {
			return err
		}
	}
	return nil
}

// Saved is a finished image.
type Saved struct {
	// Dir is the image directory.
	Dir string
	// Entries are those of the files given to Dump, in their order.
	Entries []*fdinfo.FileEntry
}

// Try saves files once into a new image.
func (b *Box) Try(files ...*os.File) (*Saved, error) {
	var entries []*fdinfo.FileEntry
	s, err := b.into(func(r *run) error {
		if err := r.all(files); err != nil {
			return err
		}
		for _, d := range r.descs[:len(files)] {
			entries = append(entries, d.Entry)
		}
		return nil
	})
	if err == nil {
		s.Entries = entries
	}
	return s, err
}

// into makes a new image of what fn saves.
func (b *Box) into(fn func(*run) error) (*Saved, error) {
	b.runs++
	s := &Saved{Dir: filepath.Join(b.tmp, fmt.Sprintf("image%d", b.runs))}
	out, err := image.Create(s.Dir, image.Options{})
	if err != nil {
		return nil, err
	}
	defer out.Abort() // does nothing after Commit
	r, err := b.newRun(out)
	if err != nil {
		return nil, err
	}
	defer r.close()
	if err := fn(r); err != nil {
		return nil, err
	}
	return s, out.Commit(&image.Manifest{Format: image.Version, Name: "test"})
}
