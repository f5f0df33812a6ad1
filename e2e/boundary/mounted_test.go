package boundary

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"ckpt/e2e/harness"
)

// mounted is a host that shows its message queues in /dev/mqueue, as most do.
const mounted = `set -e
mkdir dev
mount -t tmpfs dev dev
cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty dev/
mkdir dev/pts dev/mqueue
ln -s pts/ptmx dev/ptmx
mount --bind /dev/pts dev/pts
mount -t mqueue mqueue dev/mqueue
: >dev/mqueue/of-the-host
mount --rbind dev /dev
said() { until ckpt logs mounted | grep -q "^$1 "; do ckpt ps mounted >/dev/null; done; }
ckpt start mounted -- sh -c '
	: >/dev/mqueue/of-the-container
	exec 3<>/dev/mqueue/of-the-container
	look() { echo $1 $(ls /dev/mqueue) $(readlink /proc/$$/fd/3); }
	trap "look restored" USR1
	look started
	while :; do sleep 0.05; done'
said started
ckpt dump mounted image
ckpt restore image
ckpt kill -s USR1 mounted
said restored
ckpt logs mounted
ckpt rm -f mounted
ls /dev/mqueue`

// TestMountedQueues: a container has its own queues in /dev/mqueue, and they
// are there again.
func TestMountedQueues(t *testing.T) {
	e := harness.New(t, "")
	if !e.Root() {
		return // only root can arrange a host
	}
	e.Own("mounted")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := e.Command(ctx, harness.Tool(t, "unshare"), "--mount", "--ipc", "sh", "-c",
		"ckpt() { "+harness.Ckpt()+` "$@"; }; cd `+e.Mkdir("host")+"\n"+mounted)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"started of-the-container /dev/mqueue/of-the-container\n", "restored of-the-container /dev/mqueue/of-the-container\n", "\nof-the-host\n"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("want %q in\n%s", want, out)
		}
	}
}
