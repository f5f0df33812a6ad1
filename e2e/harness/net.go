package harness

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
)

// Port is a TCP port of the loopback interface that nobody uses.
func Port(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// Quiet waits until the server at a port has closed every connection that a
// client has closed: one that is still open has its other end outside the
// container, which a dump refuses.
func Quiet(t testing.TB, port int) {
	t.Helper()
	Eventually(t, fmt.Sprintf("port %d is quiet", port), func() error { return quiet(port) })
}

// quiet looks for sockets of the server that are neither listening (0A) nor
// without an owner (inode 0), as one in TIME_WAIT is; see proc_net_tcp.rst.
func quiet(port int) error {
	var errs []error
	for _, path := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		b, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue // no IPv6
		}
		if err != nil {
			return err
		}
		end := fmt.Sprintf(":%04X", port)
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if len(f) < 10 || !strings.HasSuffix(f[1], end) || f[3] == "0A" {
				continue
			}
			if inode, err := strconv.Atoi(f[9]); err == nil && inode != 0 {
				errs = append(errs, fmt.Errorf("connection to %s in state %s", f[2], f[3]))
			}
		}
	}
	return errors.Join(errs...)
}
