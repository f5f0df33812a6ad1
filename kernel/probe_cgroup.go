package kernel

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"ckpt/failure"
)

// tryFreeze: commit 76f969e8948d. It makes an empty cgroup below our own,
// freezes it and removes it.
func tryFreeze() error {
	dir, err := ownCgroup()
	if err != nil {
		return err
	}
	test, err := os.MkdirTemp(dir, "ckpt-probe-")
	if errors.Is(err, os.ErrPermission) {
		return failure.Unsupportedf("this user may not make a cgroup in %s", dir)
	}
	if err != nil {
		return fmt.Errorf("make a cgroup: %w", err)
	}
	defer os.Remove(test)
	err = os.WriteFile(filepath.Join(test, "cgroup.freeze"), []byte("1"), 0)
	if errors.Is(err, os.ErrNotExist) {
		return failure.Unsupportedf("cgroup.freeze is not in this kernel")
	}
	return err
}

// ownCgroup is the directory of this process's version 2 cgroup.
func ownCgroup() (string, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	root := ""
	for l := range strings.Lines(string(mounts)) {
		before, after, ok := strings.Cut(l, " - ")
		f := strings.Fields(before)
		if ok && strings.HasPrefix(after, "cgroup2 ") && len(f) > 4 && f[3] == "/" {
			root = f[4]
		}
	}
	if root == "" {
		return "", failure.Unsupportedf("no version 2 cgroup hierarchy is mounted")
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	for l := range strings.Lines(string(own)) {
		if path, ok := strings.CutPrefix(strings.TrimSuffix(l, "\n"), "0::"); ok {
			return filepath.Join(root, path), nil
		}
	}
	return "", failure.Unsupportedf("this process is in no version 2 cgroup")
}
