package state

import (
	"context"
	"strings"
	"testing"
	"time"

	"ckpt/e2e/harness"
)

// filesystems runs names.c, $1, on file systems whose device numbers differ: an
// overlay whose layers are on two, and a tmpfs; then $2, holder.c, with files of
// the lower layer that are deleted in the overlay, and on a mount that is made
// read-only, which is refused while it holds a file for writing.
const filesystems = `set -e
names=$1 holder=$2
said() { until ckpt logs $1 | grep -q "^$2"; do ckpt ps $1 >/dev/null; done; }
mkdir lower tmp over
mount -t tmpfs tmpfs tmp
mkdir tmp/upper tmp/work tmp/plain
echo below >lower/read
echo below >lower/mapped
mount -t overlay -o lowerdir=lower,upperdir=tmp/upper,workdir=tmp/work overlay over
for dir in over tmp/plain; do
	echo "on $dir"
	(cd $dir && ckpt start fs -- $names root)
	said fs ready
	for n in 1 2; do
		ckpt dump fs image-$n
		ckpt restore image-$n
		ckpt kill -s USR1 fs
		said fs "\(good\|bad\) $n"
		rm -r image-$n
	done
	ckpt kill -s USR2 fs
	said fs "\(done\|bad\)$"
	ckpt logs fs
	ckpt rm -f fs
done
ckpt start lower -- $holder rover/read mover/mapped
said lower ready
rm over/read over/mapped
ckpt dump lower image-l
ckpt restore image-l
ckpt kill -s USR1 lower
said lower held
ckpt logs lower
ckpt rm -f lower
echo text >tmp/read
echo text >tmp/write
ckpt start reader -- $holder rtmp/read dtmp
ckpt start writer -- $holder wtmp/write
said reader ready
said writer ready
ckpt dump reader image-r
ckpt dump writer image-w
mount -o remount,ro tmp
ckpt restore image-r
! ckpt restore image-w
ckpt rm -f reader`

// TestFilesystems: what is looked for by device and inode is found on an overlay
// and a tmpfs, too; and what is read-only now is told.
func TestFilesystems(t *testing.T) {
	e := harness.New(t, "")
	if !e.Root() {
		return // only root can mount
	}
	for _, name := range []string{"fs", "lower", "reader", "writer"} {
		e.Own(name)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := e.Command(ctx, harness.Tool(t, "unshare"), "--mount", "sh", "-c",
		"ckpt() { "+harness.Ckpt()+` "$@"; }; cd `+e.Mkdir("host")+"\n"+filesystems, "sh", harness.Program(t, "names.c"), harness.Program(t, "holder.c"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text := string(out)
	const good = "ready\ngood 1\ngood 2\ndone\n"
	if strings.Count(text, good) != 2 {
		t.Errorf("want twice %q in\n%s", good, text)
	}
	for _, want := range []string{"over/read 6\nheld\n", "/tmp/write: read-only file system\n", "ckpt: hint: mount that file system so that it can be written to\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("want %q in\n%s", want, text)
		}
	}
}
