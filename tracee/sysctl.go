package tracee

import (
	"fmt"

	"golang.org/x/sys/unix"

	"ckpt/procfs"
)

// Sysctl reads a number of /proc/sys as the process sees it in which run runs
// calls. ENOENT: it sees no /proc/sys.
func Sysctl(run Runner, name string) (int, error) {
	text, err := SysctlText(run, name)
	if err != nil {
		return 0, err
	}
	return procfs.ParseSysctl(name, []byte(text))
}

// SysctlText is Sysctl for what is no number, or several: the text, which is
// short.
func SysctlText(run Runner, name string) (string, error) {
	const size = 64
	var fd, buf, got uint64
	var step Step
	path := procfs.SysctlPath(name)
	err := run(func(s *Script) error {
		step = s.Must(unix.SYS_OPENAT, AtCwd, s.Str(path), unix.O_RDONLY|unix.O_CLOEXEC)
		return nil
	}, func(s *Script) (err error) {
		fd, err = s.Result(step)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("open %s: %w", path, err)
	}
	var text []byte
	err = run(func(s *Script) error {
		buf = s.Space(size)
		step = s.Try(unix.SYS_READ, fd, buf, size)
		s.Must(unix.SYS_CLOSE, fd)
		return nil
	}, func(s *Script) (err error) {
		got, err = s.Result(step)
		if err == nil {
			text = s.Bytes(buf, int(got))
		}
		return err
	})
	if err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return string(text), nil
}
