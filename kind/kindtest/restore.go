package kindtest

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"golang.org/x/sys/unix"

	"ckpt/image"
	"ckpt/kind"
	"ckpt/pidns"
)

// restoring is one restore under way.
type restoring struct {
	r     *kind.Restore
	kinds []kind.File
	made  map[uint32]*os.File
	undo  []func() error
}

// Restore brings the saved files back and gives them in their order. They are
// closed when the test ends.
func (b *Box) Restore(s *Saved) []*os.File {
	b.t.Helper()
	open := descriptors(b.t)
	files, extra, err := b.TryRestore(s)
	if err != nil {
		b.t.Fatalf("restore: %v", err)
	}
	if n := len(descriptors(b.t)); n > len(open)+extra {
		b.t.Errorf("restore left %d descriptors open beside the %d files", n-len(open)-extra, extra)
	}
	return files
}

// TryRestore is Restore for tests that expect an error. made is the number of
// files made, those that only other files needed among them. A restore that
// fails is undone.
func (b *Box) TryRestore(s *Saved) (files []*os.File, made int, err error) {
	in, err := image.Open(s.Dir)
	if err != nil {
		return nil, 0, err
	}
	defer in.Close()
	proc, err := os.OpenFile("/proc", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, 0, err
	}
	defer proc.Close()
	x := &restoring{made: map[uint32]*os.File{}}
	if err := b.prepare(x, in, proc); err != nil {
		return nil, 0, err
	}
	files, err = x.all(s)
	if err != nil {
		for i := len(x.undo) - 1; i >= 0; i-- {
			if uerr := x.undo[i](); uerr != nil {
				b.t.Errorf("undo: %v", uerr)
			}
		}
		for _, f := range x.made {
			f.Close()
		}
		return nil, 0, err
	}
	b.t.Cleanup(func() {
		for _, f := range x.made {
			f.Close()
		}
	})
	return files, len(x.made), nil
}

func (b *Box) prepare(x *restoring, in *image.Reader, proc *os.File) error {
	host := pidns.HostPID(os.Getpid())
	x.r = &kind.Restore{
		Names: unnoted{},
		Log:   slog.New(slog.DiscardHandler), In: in, Manifest: in.Manifest(), HostProc: proc, Privileged: os.Geteuid() == 0, SuspendsSeccomp: os.Geteuid() == 0,
		Entries: map[uint32]*fdinfo.FileEntry{}, Extras: map[uint32]*image.FileExtra{},
		Targets:      []*kind.Target{{VPID: VPID, Host: host, OwnsVM: true, OwnsFiles: true, OwnsFS: true, OwnsSighand: true}},
		HostPID:      func(v pidns.VPID) (pidns.HostPID, bool) { return host, v == VPID },
		AllowChanged: func(string) bool { return false },
		Undo:         func(_ string, fn func() error) { x.undo = append(x.undo, fn) },
		File:         x.file,
	}
	for _, k := range b.Kinds {
		x.kinds = append(x.kinds, k())
	}
	err := image.Each(in, image.Files, "", func(e *fdinfo.FileEntry, _ func(int) ([]byte, error)) error {
		x.r.Entries[e.GetId()] = e
		return nil
	})
	if err == nil {
		err = image.Each(in, image.FilesExtra, "", func(e *image.FileExtra, _ func(int) ([]byte, error)) error {
			x.r.Extras[e.GetId()] = e
			return nil
		})
	}
	if b.OnRestore != nil {
		b.OnRestore(x.r)
	}
	return err
}

func (x *restoring) all(s *Saved) (files []*os.File, err error) {
	for _, e := range s.Entries {
		f, err := x.file(e.GetId())
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	for id, f := range x.made {
		e := x.r.Entries[id]
		k, err := x.owner(e)
		if err == nil && k.Link != nil {
			err = k.Link(x.r, e, f)
		}
		if err != nil {
			return nil, fmt.Errorf("link: %w", err)
		}
	}
	return files, nil
}

func (x *restoring) file(id uint32) (*os.File, error) {
	if f := x.made[id]; f != nil {
		return f, nil
	}
	e := x.r.Entries[id]
	if e == nil {
		return nil, fmt.Errorf("no entry %d", id)
	}
	k, err := x.owner(e)
	if err != nil {
		return nil, err
	}
	f, err := k.Restore(x.r, e)
	if err == nil {
		x.made[id] = f
	}
	return f, err
}

func (x *restoring) owner(e *fdinfo.FileEntry) (*kind.File, error) {
	for i := range x.kinds {
		if k := &x.kinds[i]; k.Type == e.GetType() && (k.Restores == nil || k.Restores(e)) {
			return k, nil
		}
	}
	return nil, fmt.Errorf("entry %d: no kind restores %v", e.GetId(), e.GetType())
}
