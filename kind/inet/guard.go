package inet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"ckpt/tracee"
)

// A socket left in repair mode is lost to its program. So while any is, a
// guard stands by: a bare child that holds the same sockets, waits for ckpt's
// end of a pipe to be closed, as it is when ckpt dies, and then takes them all
// out of repair mode. When all went well it is killed before.
type guard struct {
	child *tracee.Thread
	end   *os.File // ckpt's end of the pipe
}

// guarded is how many sockets a guard's script has room for.
const guarded = 200

// guardFor starts the guard of streams, at most guarded of them, whose
// SO_REUSEADDR is known. The caller is locked to its OS thread until stop.
func guardFor(streams []*stream) (g *guard, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	mine, its := os.NewFile(uintptr(p[1]), "pipe"), os.NewFile(uintptr(p[0]), "pipe")
	defer its.Close()
	files := []*os.File{its}
	for _, t := range streams {
		files = append(files, t.desc.File)
	}
	// A group of its own: what kills ckpt's may not kill it.
	child, site, err := tracee.StartStub(tracee.StubOptions{Files: files, Attr: &syscall.SysProcAttr{Setpgid: true}})
	if err != nil {
		mine.Close()
		return nil, err
	}
	g = &guard{child, mine}
	err = child.SetOptions(tracee.Options{}) // it is to outlive ckpt
	if err == nil {
		err = child.Start(site, healing(site, streams))
	}
	if err != nil {
		return nil, errors.Join(err, g.stop())
	}
	return g, nil
}

// healing is the guard's script. Its descriptors: 3 is the pipe, the sockets follow.
func healing(site tracee.Site, streams []*stream) *tracee.Script {
	const pipe = 3
	word := func(v int) []byte { return binary.NativeEndian.AppendUint32(nil, uint32(v)) }
	s := tracee.NewScript(site.Base)
	none, off := s.Data(word(noQueue)), s.Data(word(repairOffMute))
	s.Try(unix.SYS_READ, pipe, s.Space(1), 1)
	for i, t := range streams {
		fd := uint64(pipe + 1 + i)
		s.Try(unix.SYS_SETSOCKOPT, fd, unix.IPPROTO_TCP, unix.TCP_REPAIR_QUEUE, none, 4)
		s.Try(unix.SYS_SETSOCKOPT, fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, off, 4)
		s.Try(unix.SYS_SETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, s.Data(word(t.reuse)), 4)
	}
	s.Must(unix.SYS_EXIT_GROUP, 0)
	return s
}

// stop ends the guard: no socket is in repair mode any more.
func (g *guard) stop() error {
	err := g.child.Kill()
	g.end.Close()
	return err
}
