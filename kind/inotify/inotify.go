// Package inotify saves inotify(7) instances.
//
// What the kernel shows: a line of fdinfo for each watch: its number, events,
// and the file watched as inode number, device and file handle, by which
// kind/watched finds it.
//
// What is saved: every watch, with its number, by path, or, of a deleted file
// that a process has open, by that; status flags, owner. Beside the path
// CRIU's entry keeps the handle.
//
// What is lost: see Limits. Events not yet read cannot be put back: they are
// refused.
//
// Needs: nothing; CAP_DAC_READ_SEARCH over the file system for
// open_by_handle_at(2), without which files are searched for.
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
	"ckpt/image"
	"ckpt/kind"
	"ckpt/kind/watched"
)

const link = "anon_inode:inotify"

// Kind is inotify(7).
func Kind() kind.File {
	f := &watched.Finder{}
	return kind.File{
		Name:    "inotify",
		Saves:   "every watch with its number, also of files that were moved or deleted",
		Refuses: "events that wait to be read; a file that is not found; a watch whose number is above 1048576",
		Needs:   "CAP_DAC_READ_SEARCH to open files by handle; without it they are searched for",
		Type:    fdinfo.FdTypes_INOTIFY,
		Owns:    func(d *kind.Desc) bool { return (d.Link == link || d.Link == "anon_inode:[inotify]") && !d.OnlyPath() },
		Refuse:  func(d *kind.Dump, desc *kind.Desc) error { _, _, err := watches(f, d, desc); return err },
		Dump:    func(d *kind.Dump, desc *kind.Desc) (*fdinfo.FileEntry, error) { return dump(f, d, desc) },
		Move:    move,
		Restore: restore,
		Link:    addAll,
		Limits: "what happens to watched files between dump and restore is not reported, what the restore itself does with them may be; " +
			"numbers of watches that were removed may be given again",
	}
}

// watch is one file watched.
type watch struct {
	watched.File
	wd   int
	mask uint32
}

// mostWatch is the highest number of a watch that a restore counts up to, since the
// kernel hands them out one after the other: some microseconds each.
const mostWatch = 1 << 20

func checkNumber(wd int) error {
	if wd <= mostWatch {
		return nil
	}
	return failure.WithHint(failure.Unsupportedf("watch %d: a restore cannot give numbers above %d, since the kernel hands them out one by one", wd, mostWatch),
		"let the program make a new inotify instance now and then")
}

// watches reads the watches and finds their places, ordered by number.
func watches(f *watched.Finder, d *kind.Dump, desc *kind.Desc) ([]watch, []watched.Place, error) {
	defer f.Close()
	if err := watched.Queued(d, desc, "inotify"); err != nil {
		return nil, nil, err
	}
	ws, err := parse(desc.Info.Lines)
	if err != nil {
		return nil, nil, err
	}
	slices.SortFunc(ws, func(a, b watch) int { return a.wd - b.wd })
	var files []watched.File
	for _, w := range ws {
		if err := checkNumber(w.wd); err != nil {
			return nil, nil, err
		}
		files = append(files, w.File)
	}
	places, err := f.Find(d, files)
	return ws, places, err
}

func dump(f *watched.Finder, d *kind.Dump, desc *kind.Desc) (*fdinfo.FileEntry, error) {
	ws, places, err := watches(f, d, desc)
	if err != nil {
		return nil, err
	}
	owner, err := d.Owner(desc)
	if err != nil {
		return nil, err
	}
	e := &fsnotify.InotifyFileEntry{Id: proto.Uint32(desc.ID), Flags: proto.Uint32(desc.StatusFlags()), Fown: owner}
	x := &image.FileExtra{Id: desc.ID}
	for i, w := range ws {
		e.Wd = append(e.Wd, &fsnotify.InotifyWdEntry{
			Id: proto.Uint32(desc.ID), IIno: proto.Uint64(w.Ino), Mask: proto.Uint32(w.mask), IgnoredMask: proto.Uint32(0),
			SDev: proto.Uint32(w.Dev), Wd: proto.Uint32(uint32(w.wd)), FHandle: w.Entry(places[i].Path),
		})
		x.WatchedFiles = append(x.WatchedFiles, places[i].Open)
	}
	if len(ws) > 0 {
		if err := d.Out.Add(image.FilesExtra, "", x); err != nil {
			return nil, err
		}
	}
	return &fdinfo.FileEntry{Ify: e}, nil
}

func move(e *fdinfo.FileEntry, to func(string) string) error {
	for _, w := range e.GetIfy().GetWd() {
		watched.Move(w.GetFHandle(), to)
	}
	return nil
}

func restore(r *kind.Restore, e *fdinfo.FileEntry) (*os.File, error) {
	n := e.GetIfy()
	if n == nil {
		return nil, failure.Damagedf("an inotify instance without its entry")
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return nil, tooMany(fmt.Errorf("make it (inotify_init1): %w", err), unix.EMFILE, "instances")
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

// addAll adds the watches when all files are made, so that it does not tell of
// that.
func addAll(r *kind.Restore, e *fdinfo.FileEntry, f *os.File) error {
	fd := int(f.Fd())
	flags := e.GetIfy().GetFlags()
	// Not blocking meanwhile, for the watches may leave events to be read.
	if err := unix.SetNonblock(fd, true); err != nil {
		return fmt.Errorf("set its flags: %w", err)
	}
	open := r.Extras[e.GetId()].GetWatchedFiles()
	type at struct {
		*fsnotify.InotifyWdEntry
		watched.Place
	}
	var ws []at
	for i, w := range e.GetIfy().GetWd() {
		p := watched.Place{Path: w.GetFHandle().GetPath()}
		if i < len(open) {
			p.Open = open[i]
		}
		ws = append(ws, at{w, p})
	}
	slices.SortFunc(ws, func(a, b at) int { return int(a.GetWd()) - int(b.GetWd()) })
	for _, w := range ws {
		if err := checkNumber(int(w.GetWd())); err != nil {
			return err
		}
		if w.Path == "" && w.Open == 0 {
			return failure.Unsupportedf("watch %d: the image has no path for it, only a file handle", w.GetWd())
		}
		err := w.With(r, func(path string, follow bool) error { return add(fd, path, follow, w.GetMask(), int(w.GetWd())) })
		if err != nil {
			return fmt.Errorf("watch %d of %s: %w", w.GetWd(), w.Path, err)
		}
	}
	if err := drain(fd); err != nil {
		return err
	}
	return unix.SetNonblock(fd, flags&unix.O_NONBLOCK != 0)
}

// add gives the watch the number want. The kernel hands out one after the
// other (idr_alloc_cyclic()), also when earlier ones are free again. A path
// leads to the file itself: its last part is a symbolic link only where the
// link is watched.
func add(fd int, path string, follow bool, mask uint32, want int) error {
	if !follow {
		mask |= unix.IN_DONT_FOLLOW
	}
	for {
		wd, err := unix.InotifyAddWatch(fd, path, mask)
		if err != nil {
			return tooMany(fmt.Errorf("inotify_add_watch: %w", err), unix.ENOSPC, "watches")
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
		_, err := fmt.Sscanf(l, "inotify wd:%x ino:%x sdev:%x mask:%x ignored_mask:%x", &w.wd, &w.Ino, &w.Dev, &w.mask, &ignored)
		if err == nil {
			_, handle, _ := strings.Cut(l, " fhandle")
			err = w.Parse("fhandle" + handle)
		}
		if err != nil {
			return nil, fmt.Errorf("read fdinfo %q: %w", l, err)
		}
		w.What = fmt.Sprintf("watch %d", w.wd)
		out = append(out, w)
	}
	return out, nil
}

// tooMany tells what to do about errno, by which the kernel says that the user
// has too many of something (inotify(7)).
func tooMany(err error, errno unix.Errno, what string) error {
	if !errors.Is(err, errno) {
		return err
	}
	return failure.WithHint(failure.Unsupportedf("more inotify %s than one user may have: %w", what, err),
		"raise the limit: sysctl fs.inotify.max_user_"+what+", or end programs that have many")
}
