// Package pipebuf is what pipes and FIFOs have in common: the buffer. It is
// read without taking anything out, by tee(2), and filled by write(2).
package pipebuf

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kernel"
)

// pipeBuf is PIPE_BUF, the greatest packet of a pipe in O_DIRECT mode (pipe(2)).
const pipeBuf = 4096

// Contents of a pipe.
type Contents struct {
	Size int // capacity in bytes (F_GETPIPE_SZ)
	Data []byte
	// Packets are the lengths of the packets that make up Data; nil for a
	// byte stream. A read(2) never returns more than one packet, and what it
	// has no room for is lost (pipe(2), O_DIRECT).
	Packets []uint32
}

// Ends tells by poll(2) which ends somebody, anywhere, has open: an end that
// can read sees POLLHUP when there is no writer, one that can write sees
// POLLERR when there is no reader (fs/pipe.c, pipe_poll). f is either end.
func Ends(f *os.File, read, write bool) (reader, writer bool, err error) {
	is, err := kernel.Poll(f.Fd(), unix.POLLIN|unix.POLLOUT)
	if err != nil {
		return false, false, fmt.Errorf("poll: %w", err)
	}
	reader = read || is&unix.POLLERR == 0
	writer = write || is&unix.POLLHUP == 0
	return reader, writer, nil
}

// Queued is the number of bytes in the pipe, seen from either end.
func Queued(f *os.File) (int, error) {
	n, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCINQ) // FIONREAD
	if err != nil {
		return 0, fmt.Errorf("ask how much is in it (FIONREAD): %w", err)
	}
	return n, nil
}

// Size is the capacity in bytes.
func Size(f *os.File) (int, error) {
	n, err := unix.FcntlInt(f.Fd(), unix.F_GETPIPE_SZ, 0)
	if err != nil {
		return 0, fmt.Errorf("ask for its capacity (F_GETPIPE_SZ): %w", err)
	}
	return n, nil
}

// Peek reads all of the pipe behind the reading end f and leaves it there.
// packets: some writer is in O_DIRECT mode.
func Peek(f *os.File, packets bool) (*Contents, error) {
	size, err := Size(f)
	if err != nil {
		return nil, err
	}
	c := &Contents{Size: size}
	n, err := Queued(f)
	if err != nil || n == 0 {
		return c, err
	}
	chunks, err := chunksOf(f, size, size)
	if err != nil {
		return nil, err
	}
	for _, b := range chunks {
		c.Data = append(c.Data, b...)
	}
	if len(c.Data) != n {
		return nil, fmt.Errorf("read %d of the %d bytes in it", len(c.Data), n)
	}
	stream, err := isStream(f, size, chunks, packets)
	if err != nil || stream {
		return c, err
	}
	for _, b := range chunks {
		c.Packets = append(c.Packets, uint32(len(b)))
	}
	return c, nil
}

// isStream tells bytes from packets: reading one byte of a packet discards
// the rest of it, so that as many such reads empty the pipe as there are
// packets. A packet of one byte alone looks like a stream of one byte, and
// only the mode of the writers tells.
func isStream(f *os.File, size int, chunks [][]byte, packets bool) (bool, error) {
	if len(chunks) == 1 && len(chunks[0]) == 1 {
		return !packets, nil
	}
	limit := len(chunks) + 1
	ones, err := chunksOf(f, size, 1, limit)
	switch {
	case err != nil:
		return false, err
	case len(ones) == len(chunks):
		return false, nil
	case len(chunks) == 1:
		return true, nil
	}
	return false, failure.WithHint(
		failure.Unsupportedf("it holds packets (O_DIRECT) and ordinary bytes at the same time"),
		"dump again when its reader has caught up")
}

// chunksOf copies the buffer with tee(2) and reads the copy, at most room
// bytes at a time and most reads if given: a read ends at a packet's end.
func chunksOf(f *os.File, size, room int, most ...int) ([][]byte, error) {
	r, w, err := copyOf(f, size)
	if err != nil {
		return nil, err
	}
	defer unix.Close(r)
	defer unix.Close(w)
	var out [][]byte
	buf := make([]byte, room)
	for len(most) == 0 || len(out) < most[0] {
		n, err := unix.Read(r, buf)
		if errors.Is(err, unix.EAGAIN) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read the copy of its contents: %w", err)
		}
		out = append(out, append([]byte(nil), buf[:n]...))
	}
	return out, nil
}

// copyOf makes a pipe that shares the buffers of f's, packet marks included
// (fs/splice.c, link_pipe). tee takes no offset, so the copy must have room
// for all.
func copyOf(f *os.File, size int) (r, w int, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return 0, 0, fmt.Errorf("make a pipe for a copy of its contents: %w", err)
	}
	defer func() {
		if err != nil {
			unix.Close(p[0])
			unix.Close(p[1])
		}
	}()
	if err := SetSize(p[1], size); err != nil {
		return 0, 0, err
	}
	for {
		_, err = unix.Tee(int(f.Fd()), p[1], size, unix.SPLICE_F_NONBLOCK)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return 0, 0, fmt.Errorf("copy its contents (tee): %w", err)
	}
	return p[0], p[1], nil
}

// SetSize gives the pipe behind fd a capacity of size bytes.
func SetSize(fd, size int) error {
	have, err := unix.FcntlInt(uintptr(fd), unix.F_GETPIPE_SZ, 0)
	if err == nil && have != size {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, size)
	}
	if err == nil {
		return nil
	}
	err = fmt.Errorf("make a pipe of %d bytes (F_SETPIPE_SZ): %w", size, err)
	if errors.Is(err, unix.EPERM) {
		err = failure.WithHint(err, "raise fs.pipe-max-size and fs.pipe-user-pages-soft with sysctl, or run ckpt as root")
	}
	return err
}

// Fill puts the contents into a new pipe. w is its writing end; its O_DIRECT
// flag is changed for the while, its O_NONBLOCK flag must be set.
func Fill(w *os.File, c *Contents) error {
	fd := int(w.Fd())
	if c.Size != 0 {
		if err := SetSize(fd, c.Size); err != nil {
			return err
		}
	}
	if c.Packets == nil {
		return put(fd, c.Data)
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags|unix.O_DIRECT)
	}
	if err != nil {
		return fmt.Errorf("switch it to packets (O_DIRECT): %w", err)
	}
	rest := c.Data
	for _, n := range c.Packets {
		if n == 0 || n > pipeBuf || int(n) > len(rest) {
			return failure.Damagedf("a packet of %d bytes in a pipe that holds %d", n, len(c.Data))
		}
		if err := put(fd, rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	if len(rest) != 0 {
		return failure.Damagedf("%d bytes in a pipe belong to no packet", len(rest))
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags); err != nil {
		return fmt.Errorf("switch it back from packets: %w", err)
	}
	return nil
}

func put(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if errors.Is(err, unix.EAGAIN) {
			return failure.Damagedf("a pipe holds more than its capacity")
		}
		if err != nil {
			return fmt.Errorf("write its contents: %w", err)
		}
		b = b[n:]
	}
	return nil
}
