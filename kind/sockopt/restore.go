package sockopt

import (
	"errors"
	"fmt"

	sk_opts "github.com/checkpoint-restore/go-criu/v7/crit/images/sk-opts"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kernel"
)

// Restore gives the socket fd the saved options. What is right already is
// left alone, since setting some of them takes privileges. A filter takes
// effect at once: call it after the queues are filled.
func Restore(fd uintptr, e *sk_opts.SkOptsEntry) error {
	s := int(fd)
	for _, f := range flags {
		v := *f.field(e)
		if v == nil {
			continue
		}
		n := 0
		if *v {
			n = 1
		}
		if err := setInt(s, unix.SOL_SOCKET, f.name, n); err != nil {
			return err
		}
	}
	for _, n := range numbers {
		v := *n.field(e)
		if v == nil {
			continue
		}
		if err := setInt(s, n.level, n.name, int(int32(*v))); err != nil {
			return err
		}
	}
	if err := restoreBuffers(s, e); err != nil {
		return err
	}
	if err := restoreTimeouts(s, e); err != nil {
		return err
	}
	if e.SoLinger != nil {
		l := unix.Linger{Onoff: 1, Linger: int32(e.GetSoLinger())}
		if err := unix.SetsockoptLinger(s, unix.SOL_SOCKET, unix.SO_LINGER, &l); err != nil {
			return fmt.Errorf("set SO_LINGER: %w", err)
		}
	}
	if err := bindToDevice(s, e.GetSoBoundDev()); err != nil {
		return err
	}
	return restoreFilter(s, e.GetSoFilter())
}

func bindToDevice(fd int, name string) error {
	if name == "" {
		return nil
	}
	if _, err := InterfaceIndex(fd, name); err != nil {
		return err
	}
	if err := unix.BindToDevice(fd, name); err != nil {
		return fmt.Errorf("bind it to network interface %s (SO_BINDTODEVICE): %w", name, err)
	}
	return nil
}

// CheckDevice tells whether the network interface that a socket is bound to
// (SO_BINDTODEVICE) is there, where the calling thread is.
func CheckDevice(e *sk_opts.SkOptsEntry) error {
	if e.GetSoBoundDev() == "" {
		return nil
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make a socket: %w", err)
	}
	defer unix.Close(fd)
	_, err = InterfaceIndex(fd, e.GetSoBoundDev())
	return err
}

// RestoreMore sets what More read. After Restore: SO_LOCK_FILTER is among it.
func RestoreMore(fd uintptr, opts []*image.SockOption) error {
	for _, o := range opts {
		if len(o.GetData()) > 0 {
			if err := SetBytes(fd, o); err != nil {
				return err
			}
			continue
		}
		if err := setInt(int(fd), int(o.GetLevel()), int(o.GetName()), int(o.GetValue())); err != nil {
			return err
		}
	}
	return nil
}

// SetBytes sets an option whose value is no int.
func SetBytes(fd uintptr, o *image.SockOption) error {
	if err := kernel.SetSocketOption(fd, int(o.GetLevel()), int(o.GetName()), o.GetData()); err != nil {
		return denied(fmt.Errorf("set socket option %s: %w", shown(int(o.GetLevel()), int(o.GetName())), err))
	}
	return nil
}

// Priority sets SO_PRIORITY once more: to set IP_TOS has changed it.
func Priority(fd uintptr, e *sk_opts.SkOptsEntry) error {
	if e.SoPriority == nil {
		return nil
	}
	return setInt(int(fd), unix.SOL_SOCKET, unix.SO_PRIORITY, int(e.GetSoPriority()))
}

// denied says what to do where setting an option takes more than one may.
func denied(err error) error {
	if errors.Is(err, unix.EPERM) {
		return failure.WithHint(failure.Mark(failure.ErrUnsupported, err), "restore as root", "or start containers with a network of their own (--net none)")
	}
	return err
}

// shown is an option as messages have it: those that take privileges by name.
func shown(level, name int) string {
	names := map[[2]int]string{
		{unix.SOL_SOCKET, unix.SO_DEBUG}: "SO_DEBUG", {unix.SOL_SOCKET, unix.SO_PRIORITY}: "SO_PRIORITY", {unix.SOL_SOCKET, unix.SO_MARK}: "SO_MARK",
		{unix.SOL_SOCKET, unix.SO_BUSY_POLL}: "SO_BUSY_POLL", {unix.SOL_SOCKET, unix.SO_PREFER_BUSY_POLL}: "SO_PREFER_BUSY_POLL",
		{unix.SOL_SOCKET, unix.SO_RCVMARK}: "SO_RCVMARK", {unix.SOL_SOCKET, unix.SO_TXTIME}: "SO_TXTIME",
		{unix.IPPROTO_IP, unix.IP_TRANSPARENT}: "IP_TRANSPARENT", {unix.IPPROTO_IPV6, unix.IPV6_TRANSPARENT}: "IPV6_TRANSPARENT",
	}
	if s := names[[2]int{level, name}]; s != "" {
		return s
	}
	return fmt.Sprintf("%d of level %d", name, level)
}

func setInt(fd, level, name, v int) error {
	if now, err := unix.GetsockoptInt(fd, level, name); err == nil && now == v {
		return nil
	}
	if err := unix.SetsockoptInt(fd, level, name, v); err != nil {
		return denied(fmt.Errorf("set socket option %s to %d: %w", shown(level, name), v, err))
	}
	return nil
}

// restoreBuffers: the kernel doubles what it is given, and counts the option
// as set by the program (SO_BUF_LOCK), which is put right afterwards.
func restoreBuffers(fd int, e *sk_opts.SkOptsEntry) error {
	for _, b := range []struct {
		name, force int
		size        uint32
	}{{unix.SO_SNDBUF, unix.SO_SNDBUFFORCE, e.GetSoSndbuf()}, {unix.SO_RCVBUF, unix.SO_RCVBUFFORCE, e.GetSoRcvbuf()}} {
		now, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, b.name)
		if err == nil && now != int(b.size) && b.size != 0 {
			err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, b.force, int(b.size/2))
			if errors.Is(err, unix.EPERM) {
				err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, b.name, int(b.size/2))
			}
		}
		if err != nil {
			return fmt.Errorf("set its buffer to %d bytes: %w", b.size, err)
		}
	}
	if e.SoBufLock == nil {
		return nil
	}
	err := setInt(fd, unix.SOL_SOCKET, unix.SO_BUF_LOCK, int(e.GetSoBufLock()))
	if errors.Is(err, unix.ENOPROTOOPT) {
		return nil // before Linux 5.14 the lock cannot be given back
	}
	return err
}

func restoreTimeouts(fd int, e *sk_opts.SkOptsEntry) error {
	for _, t := range []struct {
		name      int
		sec, usec uint64
	}{{unix.SO_SNDTIMEO, e.GetSoSndTmoSec(), e.GetSoSndTmoUsec()}, {unix.SO_RCVTIMEO, e.GetSoRcvTmoSec(), e.GetSoRcvTmoUsec()}} {
		v := unix.Timeval{Sec: int64(t.sec), Usec: int64(t.usec)}
		if v == (unix.Timeval{}) {
			continue
		}
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, t.name, &v); err != nil {
			return fmt.Errorf("set its timeout to %d.%06d s: %w", t.sec, t.usec, err)
		}
	}
	return nil
}

func restoreFilter(fd int, prog []uint64) error {
	if len(prog) == 0 {
		return nil
	}
	f := make([]unix.SockFilter, len(prog))
	for i, v := range prog {
		f[i] = unix.SockFilter{Code: uint16(v >> 48), Jt: uint8(v >> 40), Jf: uint8(v >> 32), K: uint32(v)}
	}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}); err != nil {
		return fmt.Errorf("attach its filter: %w", err)
	}
	return nil
}
