// Package watched finds the files that inotify and fanotify watch, which the
// kernel shows as device, inode number and file handle (fdinfo, proc(5)).
package watched

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fh"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/kernel"
	"ckpt/kind"
)

// File is a watched file as fdinfo shows it.
type File struct {
	Ino    uint64
	Dev    uint32 // as the kernel encodes it: major<<20 | minor
	Type   int32  // of the handle
	Handle []byte
	What   string // which watch it is, for messages: "watch 3"
}

const mostHandle = 128 // MAX_HANDLE_SZ, bytes of a handle

// Place is where a file is found: under a path of the container, or, where it
// has none there, as an open file.
type Place struct {
	Path string
	Open uint32 // its entry in files.img; 0: it has a path
}

// Entry is CRIU's of a handle: words of 8 bytes, 16 of them
// (FH_ENTRY_SIZES__min_entries).
func (f *File) Entry(path string) *fh.FhEntry {
	b := append(make([]byte, 0, mostHandle), f.Handle...)
	b = b[:mostHandle]
	e := &fh.FhEntry{Bytes: proto.Uint32(uint32(len(f.Handle))), Type: proto.Uint32(uint32(f.Type))}
	if path != "" {
		e.Path = proto.String(path)
	}
	for ; len(b) > 0; b = b[8:] {
		e.Handle = append(e.Handle, binary.NativeEndian.Uint64(b))
	}
	return e
}

// Move puts what to gives in the place of the path of a handle's entry. e may be
// nil, and may have none.
func Move(e *fh.FhEntry, to func(string) string) {
	if e.GetPath() != "" {
		e.Path = proto.String(to(e.GetPath()))
	}
}

// Parse reads the end of a line of fdinfo, from "fhandle-bytes" on.
func (f *File) Parse(s string) error {
	var size int
	_, err := fmt.Sscanf(s, "fhandle-bytes:%x fhandle-type:%x f_handle:%x", &size, &f.Type, &f.Handle)
	if err == nil && len(f.Handle) != size {
		err = errors.New("the file handle is cut off")
	}
	return err
}

// With calls do with a path that leads to a file of the image, and how to
// follow it: follow is true where the last part is a link to go through.
// Preconditions: the calling thread has a working directory of its own, as it
// has in the container's mount namespace.
func (p Place) With(r *kind.Restore, do func(path string, follow bool) error) (err error) {
	if p.Open == 0 {
		err := do(p.Path, false)
		if errors.Is(err, unix.ENOENT) {
			err = failure.WithHint(fmt.Errorf("it is missing: %w", err), "put it back first")
		}
		return err
	}
	f, err := r.File(p.Open)
	if err != nil {
		return err
	}
	here, err := unix.Open(".", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("remember the working directory: %w", err)
	}
	defer unix.Close(here)
	if err := unix.Fchdir(int(r.HostProc.Fd())); err != nil {
		return fmt.Errorf("go to /proc: %w", err)
	}
	err = do(fmt.Sprintf("thread-self/fd/%d", f.Fd()), true)
	return errors.Join(err, unix.Fchdir(here))
}

// Finder finds files, of one dump.
type Finder struct {
	roots map[uint32][]*os.File // of mounts, by device
}

type inode struct {
	dev uint32
	ino uint64
}

func inodeOf(st *unix.Stat_t) inode {
	return inode{unix.Major(st.Dev)<<20 | unix.Minor(st.Dev), st.Ino}
}

// Close lets go what the finder has open. It may be used again.
func (f *Finder) Close() {
	for _, dirs := range f.roots {
		for _, d := range dirs {
			d.Close()
		}
	}
	f.roots = nil
}

// Find gives the place of each file. It runs on a thread with a working
// directory of its own, which open_by_handle_at(2) takes as the mount: any
// other descriptor for it would have to be opened for reading, an event for
// who watches the directory.
func (f *Finder) Find(d *kind.Dump, files []File) (out []Place, err error) {
	if len(files) == 0 {
		return nil, nil
	}
	out = make([]Place, len(files))
	err = kernel.OnThread(func() error {
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return fmt.Errorf("get a working directory (unshare): %w", err)
		}
		var refused []error
		for i := range files {
			var err error
			if out[i], err = f.find(d, &files[i]); err != nil {
				refused = append(refused, err)
			}
		}
		return errors.Join(refused...)
	})
	return out, err
}

func refusef(format string, args ...any) error {
	return failure.WithHint(failure.Unsupportedf(format, args...), "remove the watch before the dump")
}
