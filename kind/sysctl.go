package kind

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Sysctl reads the numbers in a file of /proc/sys ("kernel/sem"): they are
// those of the calling thread's namespaces, whichever /proc they are reached
// through.
func (r *Restore) Sysctl(name string) ([]uint64, error) {
	f, err := r.openSysctl(name, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, 128)
	n, err := f.Read(b)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	var out []uint64
	for _, w := range strings.Fields(string(b[:n])) {
		v, err := strconv.ParseUint(w, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		out = append(out, v)
	}
	return out, nil
}

// SetSysctl sets them.
func (r *Restore) SetSysctl(name string, values ...uint64) error {
	f, err := r.openSysctl(name, unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := fmt.Fprintln(f, strings.Trim(fmt.Sprint(values), "[]")); err != nil {
		return fmt.Errorf("set %s to %d: %w", name, values, err)
	}
	return nil
}

func (r *Restore) openSysctl(name string, flags int) (*os.File, error) {
	fd, err := unix.Openat(int(r.HostProc.Fd()), "sys/"+name, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /proc/sys/%s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}
