package unixsock

import (
	"strings"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	sk_unix "github.com/checkpoint-restore/go-criu/v7/crit/images/sk-unix"
	"google.golang.org/protobuf/proto"

	"ckpt/kind"
)

func TestMove(t *testing.T) {
	moves := map[string]string{"/old": "/new", "/old/run/one": "/else/two", "/jail": "/jail2", "/jail2/run": "/jail2/var", "/far": "/" + strings.Repeat("long", 26)}
	for _, c := range []struct{ dir, name, newDir, newName string }{
		{"", "/old/sock\x00", "", "/new/sock\x00"},
		{"", "/other/sock\x00", "", "/other/sock\x00"},
		{"", "\x00/old/sock", "", "\x00/old/sock"},
		{"", "", "", ""},
		{"", "sock\x00", "", "sock\x00"}, // of a connection
		{"/old/run", "sock\x00", "/new/run", "sock\x00"},
		{"/old/run", "../sock\x00", "/new/run", "../sock\x00"},
		{"/old/run", "one\x00", "/else/", "two\x00"},
		{"/jail", "/run/sock\x00", "/jail2", "/run/sock\x00"},
		{"/jail2", "/run/sock\x00", "/jail2", "/var/sock\x00"},
		{"/", "old/sock\x00", "/new/", "sock\x00"},
	} {
		u := &sk_unix.UnixSkEntry{Name: []byte(c.name)}
		if c.dir != "" {
			u.NameDir = proto.String(c.dir)
		}
		err := move(&fdinfo.FileEntry{Usk: u}, func(p string) string { now, _ := kind.Moved(moves, p); return now })
		if err != nil || string(u.GetName()) != c.newName || u.GetNameDir() != c.newDir {
			t.Errorf("%q in %q: now %q in %q, %v", c.name, c.dir, u.GetName(), u.GetNameDir(), err)
		}
	}
	long := &fdinfo.FileEntry{Usk: &sk_unix.UnixSkEntry{Name: []byte("/far/sock\x00")}}
	if err := move(long, func(p string) string { now, _ := kind.Moved(moves, p); return now }); err == nil || !strings.Contains(err.Error(), "longer than 108 bytes") {
		t.Errorf("a name that is too long: %v", err)
	}
}
