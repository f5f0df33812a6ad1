// Package inotify saves inotify(7) instances.
//
// What the kernel shows: a line of fdinfo for each watch: its number, events,
// and the file watched as inode number, device and file handle. The handle
// leads to the file (open_by_handle_at(2)), and that to its path.
//
// What is saved: every watch by path, with its number; status flags, owner.
// Beside the path CRIU's entry keeps the handle.
//
// What is lost: see Limits. Events not yet read cannot be put back: they are
// refused.
//
// Needs: CAP_DAC_READ_SEARCH over the file system for open_by_handle_at(2).
package inotify

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/fsnotify"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/kind"
)

const link = "anon_inode:inotify"

// Kind is inotify(7).
func Kind() kind.File {
	f := &finder{}
	return kind.File{
		Name:    "inotify",
		Type:    fdinfo.FdTypes_INOTIFY,
		Owns:    func(d *kind.Desc) bool { return d.Link == link || d.Link == "anon_inode:[inotify]" },
		Refuse:  func(d *kind.Dump, desc *kind.Desc) error { defer f.close(); _, err := f.watches(d, desc); return err },
		Dump:    f.dump,
		Restore: restore,
		Limits: "what happens to watched files between dump and restore is not reported, what the restore itself does with them may be; " +
			"numbers of watches that were removed may be given again",
	}
}

func queued(desc *kind.Desc) error {
	n, err := unix.IoctlGetInt(int(desc.File.Fd()), unix.TIOCINQ) // FIONREAD
	if err != nil {
		return fmt.Errorf("read the size of its queue (FIONREAD): %w", err)
	}
	if n > 0 {
		return failure.WithHint(failure.Unsupportedf("inotify: events wait to be read, and cannot be put back"), "try again once the program has read them")
	}
	return nil
}

// watches reads the watches and finds their paths, ordered by number.
func (f *finder) watches(d *kind.Dump, desc *kind.Desc) ([]watch, error) {
	if err := queued(desc); err != nil {
		return nil, err
	}
	ws, err := parse(desc.Info.Lines)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(ws, func(a, b watch) int { return a.wd - b.wd })
	return ws, f.findAll(d, ws)
}

func (f *finder) dump(d *kind.Dump, desc *kind.Desc) (*fdinfo.FileEntry, error) {
	defer f.close()
	ws, err := f.watches(d, desc)
	if err != nil {
		return nil, err
	}
	owner, err := d.Owner(desc)
	if err != nil {
		return nil, err
	}
	e := &fsnotify.InotifyFileEntry{Id: proto.Uint32(desc.ID), Flags: proto.Uint32(desc.StatusFlags()), Fown: owner}
	for _, w := range ws {
		e.Wd = append(e.Wd, &fsnotify.InotifyWdEntry{
			Id: proto.Uint32(desc.ID), IIno: proto.Uint64(w.ino), Mask: proto.Uint32(w.mask), IgnoredMask: proto.Uint32(0),
			SDev: proto.Uint32(w.dev), Wd: proto.Uint32(uint32(w.wd)), FHandle: w.handleEntry(),
		})
	}
	return &fdinfo.FileEntry{Ify: e}, nil
}

func restore(r *kind.Restore, e *fdinfo.FileEntry) (*os.File, error) {
	n := e.GetIfy()
	if n == nil {
		return nil, failure.Damagedf("an inotify instance without its entry")
	}
	// Not blocking while the watches are made, which leaves events to be read.
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make it (inotify_init1): %w", err)
	}
	if err := addAll(fd, n.GetWd()); err != nil {
		unix.Close(fd)
		return nil, err
	}
	f, err := kind.NewFile(fd, n.GetFlags(), link)
	if err != nil {
		return nil, err
	}
	if err := r.RestoreOwner(f, n.GetFown()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func addAll(fd int, ws []*fsnotify.InotifyWdEntry) error {
	ws = slices.Clone(ws)
	slices.SortFunc(ws, func(a, b *fsnotify.InotifyWdEntry) int { return int(a.GetWd()) - int(b.GetWd()) })
	for _, w := range ws {
		path := w.GetFHandle().GetPath()
		if path == "" {
			return failure.Unsupportedf("watch %d: the image has no path for it, only a file handle", w.GetWd())
		}
		if err := add(fd, path, w.GetMask(), int(w.GetWd())); err != nil {
			return fmt.Errorf("watch %s: %w", path, err)
		}
	}
	return drain(fd)
}

// add gives the watch the number want. The kernel hands out one after the
// other (idr_alloc_cyclic()), also when earlier ones are free again. A path
// leads to the file itself: its last part is a symbolic link only where the
// link is watched.
func add(fd int, path string, mask uint32, want int) error {
	for {
		wd, err := unix.InotifyAddWatch(fd, path, mask|unix.IN_DONT_FOLLOW)
		if errors.Is(err, unix.ENOENT) {
			return failure.WithHint(fmt.Errorf("it is missing: %w", err), "put it back first")
		}
		if err != nil {
			return fmt.Errorf("inotify_add_watch: %w", err)
		}
		if wd == want {
			return nil
		}
		if wd > want {
			return failure.Damagedf("it cannot get number %d, only %d", want, wd)
		}
		if _, err := unix.InotifyRmWatch(fd, uint32(wd)); err != nil {
			return fmt.Errorf("inotify_rm_watch: %w", err)
		}
		if err := drain(fd); err != nil { // IN_IGNORED of the removed one
			return err
		}
	}
}

func drain(fd int) error {
	buf := make([]byte, 1<<16)
	for {
		_, err := unix.Read(fd, buf)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("read events of its own making: %w", err)
		}
	}
}

// parse reads the lines of fdinfo. Numbers are hexadecimal.
func parse(lines []string) ([]watch, error) {
	var out []watch
	for _, l := range lines {
		if !strings.HasPrefix(l, "inotify ") {
			continue
		}
		var w watch
		var ignored uint32
		var size int
		_, err := fmt.Sscanf(l, "inotify wd:%x ino:%x sdev:%x mask:%x ignored_mask:%x fhandle-bytes:%x fhandle-type:%x f_handle:%x",
			&w.wd, &w.ino, &w.dev, &w.mask, &ignored, &size, &w.typ, &w.handle)
		if err == nil && len(w.handle) != size {
			err = errors.New("the file handle is cut off")
		}
		if err != nil {
			return nil, fmt.Errorf("read fdinfo %q: %w", l, err)
		}
		out = append(out, w)
	}
	return out, nil
}
