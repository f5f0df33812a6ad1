package state

import (
	"strings"
	"testing"

	"ckpt/e2e/harness"
)

// otherMounts runs $1, holder.c, with a file and a directory that are hidden by a
// mount, and then are not; and with a file that was opened in another mount
// namespace: one that is here, too, and one that is not.
const otherMounts = `set -e
holder=$1 here=$$ dir=$PWD p=
trap 'kill $p || :' EXIT
said() { until grep -q "^$1" said; do kill -0 $p; done; }
tells() { ckpt check --pid $p || echo "exit code $?"; ckpt dump --pid $p image || echo "exit code $?"; }
mkdir under over other
echo text >under/file
echo other text >over/file
setsid $holder runder/file dunder </dev/null >said 2>&1 & p=$!
said ready
mount --bind over/file under/file
tells
umount under/file
mount --bind over under
tells
umount under
ckpt dump --pid $p image-h
p=
ckpt restore image-h --name hidden
ckpt kill hidden -s USR1
until grep -q ^held said; do ckpt ps hidden >/dev/null; done
cat said
ckpt rm -f hidden

elsewhere() {
	setsid unshare --mount sh -c 'mount -t tmpfs tmpfs other && echo text >other/file &&
		exec nsenter --mount=/proc/'$here'/ns/mnt sh -c "cd '$dir' && exec '$holder'" 3<'$1 </dev/null >said 2>&1 & p=$!
	said ready
}
elsewhere under/file
ckpt check --pid $p
ckpt dump --pid $p image-e
ckpt restore image-e --name elsewhere
p=$(ckpt ps elsewhere | awk '/holder/ { print $2 }')
readlink /proc/$p/fd/3
test /proc/$p/fd/3 -ef under/file
ckpt rm -f elsewhere
elsewhere other/file
tells`

// TestOtherMounts: a file that is not where it was opened is told, and is no
// obstacle where it is.
func TestOtherMounts(t *testing.T) {
	e := harness.New(t, "")
	if !e.Root() {
		return // only root can mount
	}
	for _, name := range []string{"hidden", "elsewhere"} {
		e.Own(name)
	}
	l := e.Launch(true, harness.Tool(t, "unshare"), "--mount", "sh", "-c",
		"ckpt() { "+harness.Ckpt()+` "$@"; }; cd `+e.Mkdir("host")+"\n"+otherMounts, "sh", harness.Program(t, "holder.c"))
	status, said := l.Wait(), l.Log()
	if status != 0 {
		t.Errorf("status %v", status)
	}
	for want, times := range map[string]int{
		"exit code 3\n": 6, "/under/file was deleted, replaced or hidden by a mount": 4, "hidden by a mount, or its mount is gone\n": 2,
		"fd 3: /file was deleted, replaced or hidden by a mount": 2, "under/file 5\nunder ": 1, "/host/under/file\n": 1,
	} {
		if n := strings.Count(said, want); n != times {
			t.Errorf("%q is said %d times, want %d", want, n, times)
		}
	}
	if t.Failed() {
		t.Log(said)
	}
}
