package harness

import (
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Give sends f, which it closes, to the first who connects to "edge" in Dir
// (e2e/program/boundary/edges.c).
func (e *Env) Give(f *os.File) {
	e.T.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: e.Join("edge"), Net: "unix"})
	if err == nil {
		err = os.Chmod(e.Join("edge"), 0o777)
	}
	if err != nil {
		e.T.Fatal(err)
	}
	done := make(chan error, 1)
	e.T.Cleanup(func() {
		l.Close()
		if err := <-done; err != nil {
			e.T.Error(err)
		}
	})
	go func() {
		defer f.Close()
		c, err := l.AcceptUnix()
		if err == nil {
			defer c.Close()
			_, _, err = c.WriteMsgUnix([]byte("x"), unix.UnixRights(int(f.Fd())), nil)
		}
		done <- err
	}()
}
