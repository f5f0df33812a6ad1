package unixsock

import (
	"bytes"
	"log/slog"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/image"
	"ckpt/kind"
	"ckpt/kind/kindtest"
	"ckpt/tracee"
)

// Groups of a peer come back, and where they cannot, that is told.
func TestPeerGroups(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(*tracee.Script) // in the process that makes the sockets
		kept    bool
	}{
		{"kept", func(*tracee.Script) {}, true},
		{"not allowed", func(s *tracee.Script) {
			none := make([]byte, 24)
			s.Must(unix.SYS_CAPSET, s.Data([]byte{0x22, 0x05, 0x08, 0x20, 0, 0, 0, 0}), s.Data(none)) // _LINUX_CAPABILITY_VERSION_3
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := []uint32{100, 2000, 70000}
			var a, b *os.File
			me := &image.Ucred{Uid: uint32(os.Getuid()), Gid: uint32(os.Getgid()), Groups: want}
			must(t, place{}.run(me, func() error { a, b = newPair(t, unix.SOCK_STREAM); return nil }))
			box := kindtest.New(t, Kind)
			saved := box.Dump(a, b)
			stub, site := bare(t)
			sc := tracee.NewScript(site.Base)
			if c.prepare(sc); sc.Len() > 0 {
				must(t, stub.Run(site, sc))
			}
			var log bytes.Buffer
			box.OnRestore = func(r *kind.Restore) {
				actAs(r, stub, site)
				r.Log = slog.New(slog.NewTextHandler(&log, nil))
			}
			for _, f := range box.Restore(saved) {
				got, err := peerGroups(f.Fd())
				must(t, err)
				if sameGroups(got, want) != c.kept {
					t.Errorf("groups %d, were %d", got, want)
				}
			}
			if told := strings.Contains(log.String(), "(SO_PEERGROUPS) are others"); told == c.kept {
				t.Errorf("the log says %q", log.String())
			}
		})
	}
}
