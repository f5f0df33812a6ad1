// Package fs is where a process stands in the file system: working directory,
// root, and umask (fs_struct of the kernel, shared with CLONE_FS).
//
// # What the kernel shows
//
// The links cwd and root of /proc/PID, and Umask of its status (4.7).
//
// # What is saved
//
// fs-VPID.img: both directories as files of files.img, and the umask.
//
// # What is lost
//
// Nothing: a directory that has been deleted is made again, deleted. One that
// lies outside the container's mounts is refused.
//
// # Needs
//
// Umask in status (4.7).
package fs

import (
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

// Kind is working directory, root and umask.
func Kind() kind.Process {
	return kind.Process{
		Name:    "working directory",
		Saves:   "working directory, root directory and umask, also of deleted directories, and shared by processes (CLONE_FS)",
		Refuses: "a directory outside the container's mounts",
		Needs:   "Umask in /proc/PID/status (4.7)",
		Observe: observe, Ask: ask, Restore: restore,
	}
}

func observe(d *kind.Dump, p *kind.Proc) error {
	for _, l := range []struct{ link, what string }{{"cwd", "it"}, {"root", "the root directory"}} {
		if err := refuse(d, p, l.link, l.what); err != nil {
			return err
		}
	}
	return nil
}

func refuse(d *kind.Dump, p *kind.Proc, link, what string) error {
	f, path, err := open(p, link)
	if errors.Is(err, failure.ErrUnsupported) {
		return err
	}
	if err != nil {
		return fmt.Errorf("look at %s: %w", what, err)
	}
	defer f.Close()
	if !strings.HasPrefix(path, "/") {
		// d_path(): "(unreachable)/…" for what hangs on no mount of the namespace
		return failure.WithHint(failure.Unsupportedf("%s lies outside the container's mounts (%s)", what, path), "let it change to a directory of the container")
	}
	return d.RefuseFile(p, f, path)
}

// ask runs no call; the files are saved here because Observe also serves
// where no image is written.
func ask(d *kind.Dump, p *kind.Proc, _ *tracee.Script) (func() error, error) {
	cwd, err := add(d, p, "cwd")
	if err != nil {
		return nil, err
	}
	root, err := add(d, p, "root")
	if err != nil {
		return nil, fmt.Errorf("the root directory: %w", err)
	}
	p.FSE.CwdId, p.FSE.RootId, p.FSE.Umask = proto.Uint32(cwd), proto.Uint32(root), proto.Uint32(p.Lead().Status.Umask)
	return nil, nil
}

func add(d *kind.Dump, p *kind.Proc, link string) (uint32, error) {
	f, path, err := open(p, link)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return d.AddFile(p, f, path)
}

func open(p *kind.Proc, link string) (f *os.File, path string, err error) {
	fs := p.Lead().FS // a leader that has exited is nowhere
	if path, err = fs.Link(link); err != nil {
		return nil, "", err
	}
	// Reading the directory may not be permitted, being in it is.
	f, err = fs.OpenLink(link, unix.O_PATH|unix.O_DIRECTORY)
	return f, path, err
}

func restore(r *kind.Restore, t *kind.Target) error {
	if !t.OwnsFS {
		return nil
	}
	cwd, err := r.File(t.FSE.GetCwdId())
	if err != nil {
		return fmt.Errorf("find its working directory: %w", err)
	}
	root, err := r.File(t.FSE.GetRootId())
	if err != nil {
		return fmt.Errorf("find its root directory: %w", err)
	}
	same, err := isRoot(r, t, int(root.Fd()))
	if err != nil {
		return err
	}
	s := t.Main
	if !same {
		fd := t.Fetch(s, root)
		s.Note(s.Must(unix.SYS_FCHDIR, fd), "go to its root directory")
		s.Note(s.Must(unix.SYS_CHROOT, s.Str(".")), "make it the root directory")
		t.Drop(s, fd)
	}
	fd := t.Fetch(s, cwd)
	s.Note(s.Must(unix.SYS_FCHDIR, fd), "go to its working directory")
	t.Drop(s, fd)
	if t.FSE.Umask != nil {
		s.Note(s.Must(unix.SYS_UMASK, uint64(t.FSE.GetUmask())), "set the umask")
	}
	return nil
}

// isRoot tells whether fd is the root directory that the bare child has
// already. The same directory on another mount is another root.
func isRoot(r *kind.Restore, t *kind.Target, fd int) (bool, error) {
	p, err := procfs.OpenAt(r.HostProc, t.Host.String())
	if err != nil {
		return false, err
	}
	defer p.Close()
	f, err := p.OpenLink("root", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return false, err
	}
	defer f.Close()
	a, err := place(int(f.Fd()))
	if err != nil {
		return false, fmt.Errorf("look at the container's root directory: %w", err)
	}
	b, err := place(fd)
	if err != nil {
		return false, fmt.Errorf("look at its root directory: %w", err)
	}
	return a == b, nil
}

// position of a directory: which inode, through which mount.
type position struct {
	ino, mount   uint64
	major, minor uint32
}

// place asks statx(2), which has known mounts since 5.8.
func place(fd int) (position, error) {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_INO|unix.STATX_MNT_ID, &st); err != nil {
		return position{}, err
	}
	return position{st.Ino, st.Mnt_id, st.Dev_major, st.Dev_minor}, nil
}
