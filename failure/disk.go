package failure

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// diskHint is what can be done about an error of the file system that holds the file
// or directory at a path; "" where it is another error.
func diskHint(err error, path string) string {
	at := Quote(path)
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return "make room on the file system of " + at + ", or use another one"
	case errors.Is(err, syscall.EDQUOT):
		return "remove something of yours from the file system of " + at + ", have your quota there raised, or use another file system"
	case errors.Is(err, syscall.EIO), errors.Is(err, syscall.ESTALE):
		return "the disk of " + at + " fails, or cannot be reached any more (dmesg tells more): use another one, and do not trust what is there"
	}
	return ""
}

// OnDisk adds to an error of the file system that holds the file or directory at a
// path what can be done about it: that there is no room, that a quota is used up, that
// the device fails. Other errors stay as they are.
func OnDisk(err error, path string) error {
	if hint := diskHint(err, path); hint != "" {
		return WithHint(err, hint)
	}
	return err
}

// hintOfPath is that for errors that say what their path is.
func hintOfPath(err error) string {
	path := ""
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		path = e.Path
	} else if e, ok := errors.AsType[*os.LinkError](err); ok {
		path = e.New
	}
	if !filepath.IsAbs(path) || strings.HasPrefix(path, "/proc/") || strings.HasPrefix(path, "/sys/") {
		return ""
	}
	return diskHint(err, filepath.Dir(path))
}
