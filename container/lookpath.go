package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"ckpt/failure"
)

// defaultPath is what execvp(3) uses where PATH is not set.
const defaultPath = "/bin:/usr/bin"

// LookPath finds the program a command names, the way a shell does: a name
// with a slash is a path, any other is looked for in PATH of env. The path is
// as given: relative paths stay relative to the working directory.
func LookPath(name string, env []string) (string, error) {
	fail := func(err error, hints ...string) (string, error) {
		return "", failure.WithHint(fmt.Errorf("%s: %w", name, err), hints...)
	}
	if name == "" {
		return "", failure.Mark(failure.ErrUsage, errors.New("the command is empty"))
	}
	if strings.Contains(name, "/") {
		if err := executable(name); err != nil {
			return fail(err, hintFor(name, err)...)
		}
		return name, nil
	}
	var denied error
	for _, dir := range filepath.SplitList(pathOf(env)) {
		if dir == "" {
			dir = "." // POSIX: an empty entry is the working directory
		}
		path := filepath.Join(dir, name)
		if !strings.Contains(path, "/") {
			path = "./" + path
		}
		err := executable(path)
		if err == nil {
			return path, nil
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) && denied == nil {
			denied = fmt.Errorf("%s: %w", path, err)
		}
	}
	if denied != nil {
		return fail(denied)
	}
	if executable("./"+name) == nil {
		return fail(errors.New("not found in PATH"), "there is one in this directory: "+failure.Quote("./"+name))
	}
	return fail(errors.New("not found in PATH"), "give its path, or install it")
}

func pathOf(env []string) string {
	path := defaultPath
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = v
		}
	}
	return path
}

// executable tells why a file cannot be executed, in words.
func executable(path string) error {
	fi, err := os.Stat(path)
	if err != nil {
		return failure.WithoutPath(err)
	}
	if fi.IsDir() {
		return errors.New("is a directory")
	}
	if err := unix.Faccessat(unix.AT_FDCWD, path, unix.X_OK, unix.AT_EACCESS); err != nil {
		return fmt.Errorf("not executable: %w", err)
	}
	return nil
}

func hintFor(path string, err error) []string {
	switch {
	case errors.Is(err, unix.EACCES):
		return []string{"make it executable: chmod +x " + failure.Quote(path)}
	case errors.Is(err, fs.ErrNotExist) && !filepath.IsAbs(path):
		return []string{"relative paths start at the working directory"}
	}
	return nil
}
