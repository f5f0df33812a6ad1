package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// fsNames are the file systems that images are likely to be written to
// (statfs(2)).
var fsNames = map[int64]string{
	unix.EXT4_SUPER_MAGIC: "ext4", unix.TMPFS_MAGIC: "tmpfs", unix.XFS_SUPER_MAGIC: "xfs",
	unix.BTRFS_SUPER_MAGIC: "btrfs", unix.OVERLAYFS_SUPER_MAGIC: "overlayfs",
}

// describe prints what the figures depend on.
func describe(dir string) {
	var u unix.Utsname
	if err := unix.Uname(&u); err == nil {
		fmt.Printf("kernel:   %s %s\n", unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Machine[:]))
	}
	fmt.Printf("machine:  %s, %d CPUs, %s of memory\n", field("/proc/cpuinfo", "model name"), runtime.NumCPU(), field("/proc/meminfo", "MemTotal"))
	fmt.Printf("go:       %s\n", runtime.Version())
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err == nil {
		name, ok := fsNames[int64(fs.Type)]
		if !ok {
			name = fmt.Sprintf("file system %#x", fs.Type)
		}
		fmt.Printf("images:   %s\n\n", name)
	}
}

// field is the first value of that name in a file of /proc.
func field(path, name string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(b)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.Join(strings.Fields(value), " ")
		}
	}
	return "unknown"
}
