package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"ckpt/failure"
)

// StateDir is where a user's containers are remembered, made by need if it is
// not there: $CKPT_STATE if set, else /run/ckpt for root; else ckpt below
// $XDG_RUNTIME_DIR or /run/user/UID; else /tmp/ckpt-UID. It belongs to the
// user and to nobody else: a directory another user could have prepared in
// /tmp is refused. Inside a container it is a directory of its own below that.
func StateDir(getenv func(string) string, uid int, need bool) (string, error) {
	dir := getenv("CKPT_STATE")
	switch {
	case dir != "":
		abs, err := filepath.Abs(dir)
		if err != nil {
			return "", fmt.Errorf("state directory: %w", err)
		}
		dir = abs
	case uid == 0:
		dir = "/run/ckpt"
	default:
		dir = userDir(getenv("XDG_RUNTIME_DIR"), uid)
	}
	if err := private(dir, uid, need); err != nil {
		return "", err
	}
	key, err := KeyOf()
	if err != nil || key == "" {
		return dir, err
	}
	dir = insideDir(dir, key)
	return dir, private(dir, uid, need)
}

func private(dir string, uid int, need bool) error {
	if need {
		if err := makePrivate(dir); err != nil {
			return noStateDir(err)
		}
	}
	if err := checkPrivate(dir, uid); err != nil && (need || !errors.Is(err, fs.ErrNotExist)) {
		return noStateDir(err)
	}
	return nil
}

func noStateDir(err error) error {
	return failure.WithHint(fmt.Errorf("state directory: %w", err),
		"name another one in the environment variable CKPT_STATE")
}

func userDir(xdg string, uid int) string {
	for _, d := range []string{xdg, fmt.Sprintf("/run/user/%d", uid)} {
		// A relative XDG_RUNTIME_DIR is to be ignored (XDG Base Directory
		// Specification), and after su(1) it may be another user's.
		if filepath.IsAbs(d) && owner(d) == uid {
			return filepath.Join(d, "ckpt")
		}
	}
	return fmt.Sprintf("/tmp/ckpt-%d", uid)
}

// owner is the owner of a real directory, else -1.
func owner(dir string) int {
	fi, err := os.Lstat(dir)
	if err != nil || !fi.IsDir() {
		return -1
	}
	return int(fi.Sys().(*syscall.Stat_t).Uid)
}

func makePrivate(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

func checkPrivate(dir string, uid int) error {
	// O_NOFOLLOW: /tmp is everybody's, and a symbolic link there anybody's.
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: dir, Err: err}
	}
	if int(st.Uid) != uid {
		return fmt.Errorf("%s belongs to uid %d, not to uid %d", dir, st.Uid, uid)
	}
	if st.Mode&0o022 != 0 {
		return fmt.Errorf("%s can be written by others (mode %#o)", dir, st.Mode&0o7777)
	}
	return nil
}
