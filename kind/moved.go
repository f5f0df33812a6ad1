package kind

import (
	"path"
	"strings"
)

// Moved is where what was at p is looked for, if what was at an old path of
// moves, and all that lay below it, is at the new one now. Of several old paths
// the longest decides, and that is given, too; "": none does.
func Moved(moves map[string]string, p string) (now, old string) {
	for o := p; strings.HasPrefix(o, "/"); o = path.Dir(o) {
		if to, ok := moves[o]; ok {
			return path.Join(to, p[len(o):]), o
		}
		if o == "/" {
			break
		}
	}
	return p, ""
}
