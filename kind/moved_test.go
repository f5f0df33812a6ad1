package kind_test

import (
	"testing"

	"ckpt/kind"
)

func TestMoved(t *testing.T) {
	moves := map[string]string{"/srv/app": "/opt/new", "/srv/app/data": "/mnt", "/x y": "/"}
	for _, c := range []struct{ path, now, old string }{
		{"/srv/app", "/opt/new", "/srv/app"},
		{"/srv/app/a/b", "/opt/new/a/b", "/srv/app"},
		{"/srv/app/data", "/mnt", "/srv/app/data"},
		{"/srv/app/data/f", "/mnt/f", "/srv/app/data"},
		{"/srv/app/database", "/opt/new/database", "/srv/app"},
		{"/srv/apple", "/srv/apple", ""},
		{"/srv", "/srv", ""},
		{"/x y/f", "/f", "/x y"},
		{"/", "/", ""},
		{"", "", ""},
		{"srv/app", "srv/app", ""},
	} {
		if now, old := kind.Moved(moves, c.path); now != c.now || old != c.old {
			t.Errorf("%q is at %q by %q, want %q by %q", c.path, now, old, c.now, c.old)
		}
	}
}
