package state

import (
	"context"
	"strings"
	"testing"
	"time"

	"ckpt/e2e/harness"
)

// pseudo runs $1, holder.c, with files and directories of file systems that the
// kernel makes up, of one that lives in memory without a count of its own, and
// of a mount that is read-only while what is below it is not.
const pseudo = `set -e
holder=$1
said() { until ckpt logs pseudo | grep -q "^$1"; do ckpt ps pseudo >/dev/null; done; }
for type in tracefs debugfs securityfs bpf cgroup2 ramfs; do
	mkdir $type
	mount -t $type $type $type
done
echo text >ramfs/file
mkdir still
echo text >still/file
mount --bind still still
mount -o remount,bind,ro still
ckpt start pseudo -- $holder rtracefs/README wtracefs/trace_marker dtracefs/events ddebugfs rsecurityfs/lsm dbpf \
	rcgroup2/cgroup.controllers rcgroup2/cgroup.procs dcgroup2 wramfs/file rstill/file dstill \
	r/sys/kernel/mm/transparent_hugepage/enabled d/sys/kernel/mm r/proc/pressure/cpu r/proc/cpuinfo
said ready
for n in 1 2; do
	ckpt check pseudo
	ckpt dump pseudo image-$n
	ckpt restore image-$n
done
ckpt kill -s USR1 pseudo
said held
ckpt logs pseudo
ckpt rm -f pseudo`

// TestPseudoFilesystems: their files come back by their paths, whatever size they
// show.
func TestPseudoFilesystems(t *testing.T) {
	e := harness.New(t, "")
	if !e.Root() {
		return // only root can mount
	}
	e.Own("pseudo")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := e.Command(ctx, harness.Tool(t, "unshare"), "--mount", "sh", "-c",
		"ckpt() { "+harness.Ckpt()+` "$@"; }; cd `+e.Mkdir("host")+"\n"+pseudo, "sh", harness.Program(t, "holder.c"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"ramfs/file 5\n", "still/file 5\n", "/enabled 4096\n", "held\n"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("want %q in\n%s", want, out)
		}
	}
	if strings.Count(string(out), "would dump\n") != 2 {
		t.Errorf("a check finds something in its way:\n%s", out)
	}
}
