package unixsock

import (
	"path"
	"strings"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
)

// longest is how long a name in the file system may be, in bytes: sun_path has
// 108, and none of them has to be the NUL behind it (unix(7)).
const longest = 108

// move gives a name in the file system another. One that was relative, or bound
// under another root, stays as it is where its beginning has moved, too.
func move(e *fdinfo.FileEntry, to func(string) string) error {
	u := e.GetUsk()
	name, dir := pathOf(u.GetName()), u.GetNameDir()
	if name == "" || !path.IsAbs(name) && dir == "" {
		return nil // no path, or one of a connection that leads nowhere
	}
	now, base := to(path.Join("/", dir, name)), ""
	if dir != "" {
		base = to(path.Join("/", dir))
	}
	switch below, ok := strings.CutPrefix(now, strings.TrimSuffix(base, "/")+"/"); {
	case path.Join("/", base, name) == now:
	case path.IsAbs(name) && ok:
		name = "/" + below
	case path.IsAbs(name):
		name, base = now, ""
	default:
		base, name = path.Split(now)
	}
	if len(name) > longest {
		return failure.WithHint(failure.Unsupportedf("unix socket %s: its name would be longer than %d bytes: %s", shown(u.GetName()), longest, name),
			"restore it in a directory with a shorter path")
	}
	if name != pathOf(u.GetName()) {
		u.Name = append([]byte(name), 0)
	}
	if base != dir {
		u.NameDir = proto.String(base)
	}
	return nil
}
