package unixsock

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	sk_unix "github.com/checkpoint-restore/go-criu/v7/crit/images/sk-unix"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/kind"
)

// siocUnixFile is SIOCUNIXFILE of linux/un.h: an O_PATH descriptor of the
// file that a bound socket stands for.
const siocUnixFile = 0x89E0

// inFiles: it has a name in the file system that counts. Of a connected stream
// only the name itself matters: nobody can connect to it, and one that was
// accepted shares its listener's name.
func (i *info) inFiles() bool {
	return i.path() != "" && !(i.stream() && i.state == stateConnected)
}

// dumpName saves where in the file system the name stands.
func (s *saver) dumpName(d *kind.Dump, desc *kind.Desc, i *info, e *sk_unix.UnixSkEntry) error {
	if !i.inFiles() {
		return nil
	}
	p, err := locate(d, desc, i)
	if err != nil {
		return err
	}
	if p.gone {
		e.Deleted = proto.Bool(true)
		return nil
	}
	if p.dir != "" {
		e.NameDir = proto.String(p.dir)
	}
	ino, err := d.Inode(&p.stat)
	if err != nil {
		return err
	}
	e.FilePerms = &sk_unix.FilePermsEntry{Mode: proto.Uint32(p.stat.Mode), Uid: proto.Uint32(ino.GetUid()), Gid: proto.Uint32(ino.GetGid())}
	return nil
}

// where a name leads. dir is the directory that a relative name starts from,
// or the root that an absolute one was bound under; "": the container's root.
type where struct {
	dir  string
	gone bool // the file has been deleted, or another has its name
	stat unix.Stat_t
}

func locate(d *kind.Dump, desc *kind.Desc, i *info) (where, error) {
	fd, err := unix.IoctlRetInt(int(desc.File.Fd()), siocUnixFile)
	if errors.Is(err, unix.EPERM) {
		return guess(d, desc, i)
	}
	if err != nil {
		return where{}, fmt.Errorf("find the file of %s (SIOCUNIXFILE): %w", i.path(), err)
	}
	defer unix.Close(fd)
	var w where
	if err := unix.Fstat(fd, &w.stat); err != nil {
		return w, fmt.Errorf("stat the file of %s: %w", i.path(), err)
	}
	link, err := os.Readlink(fmt.Sprintf("/proc/thread-self/fd/%d", fd))
	if err != nil {
		return w, fmt.Errorf("find the file of %s: %w", i.path(), err)
	}
	var full string
	if full, w.gone, err = d.Path(&kind.Desc{Link: link, Stat: w.stat}); err != nil || w.gone {
		return w, err
	}
	w.dir, err = directory(d, desc, i.path(), full, &w.stat)
	return w, err
}

// directory finds from where name leads to the file that is called full.
func directory(d *kind.Dump, desc *kind.Desc, name, full string, st *unix.Stat_t) (string, error) {
	leads := func(p string) (bool, error) {
		_, gone, err := d.Path(&kind.Desc{Link: p, Stat: *st})
		return !gone, err
	}
	if path.IsAbs(name) {
		if ok, err := leads(name); err != nil || ok {
			return "", err
		}
		if root, ok := strings.CutSuffix(full, name); ok { // bound under another root
			return root, nil
		}
		return "", notFound(name)
	}
	if dir, ok := strings.CutSuffix(full, "/"+name); ok {
		return path.Join("/", dir), nil
	}
	cwd, err := desc.Proc.FS.Link("cwd") // a name with ".." or through symbolic links
	if err != nil {
		return "", err
	}
	if ok, err := leads(path.Join(cwd, name)); err != nil || ok {
		return cwd, err
	}
	return "", notFound(name)
}

func notFound(name string) error {
	return failure.WithHint(failure.Unsupportedf("unix socket: from where the name %s leads to its file cannot be found out", name),
		"bind the socket to its full path")
}

// guess looks for the file where the name leads now. The inode number is all
// that tells whether it is the right one.
func guess(d *kind.Dump, desc *kind.Desc, i *info) (where, error) {
	name, w := i.path(), where{}
	if !path.IsAbs(name) {
		cwd, err := desc.Proc.FS.Link("cwd")
		if err != nil {
			return w, err
		}
		w.dir = cwd
	}
	root, err := desc.Proc.FS.OpenFile("root", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return w, err
	}
	defer root.Close()
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(int(root.Fd()), path.Join("/", w.dir, name), &how)
	if err == nil {
		err = unix.Fstat(fd, &w.stat)
		unix.Close(fd)
	}
	found := err == nil && w.stat.Mode&unix.S_IFMT == unix.S_IFSOCK && uint32(w.stat.Ino) == i.vfsIno
	switch {
	case found:
		return w, nil
	case path.IsAbs(name):
		return where{gone: true}, nil
	}
	return w, notFound(name)
}
