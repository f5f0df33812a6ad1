package procfs

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Sysctl reads a number of /proc/sys ("kernel/pid_max") as the calling thread
// sees it: many are those of a namespace of the reader's.
func Sysctl(name string) (int, error) {
	b, err := os.ReadFile(SysctlPath(name))
	if err != nil {
		return 0, err
	}
	return ParseSysctl(name, b)
}

// SysctlPath is the file of a number.
func SysctlPath(name string) string { return "/proc/sys/" + name }

// ParseSysctl is the number in what a file of /proc/sys gave.
func ParseSysctl(name string, text []byte) (int, error) {
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", SysctlPath(name), err)
	}
	return n, nil
}
