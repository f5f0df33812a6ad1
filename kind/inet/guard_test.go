package inet

import (
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/kind"
)

// When ckpt dies, its end of the pipe is closed.
func TestGuardHeals(t *testing.T) {
	ownNet(t)
	c, s, _ := pairOver(t, in4, "127.0.0.1:80")
	must(t, unix.SetsockoptInt(int(c.Fd()), sol, unix.SO_REUSEADDR, 1))
	streams := []*stream{{desc: &kind.Desc{File: c}, reuse: 1}, {desc: &kind.Desc{File: s}, reuse: 1}}
	was := []facts{factsOf(t, c), factsOf(t, s)}
	g, err := guardFor(streams)
	must(t, err)
	for _, st := range streams {
		must(t, repair(st.fd(), repairOn))
		_, err := queueSeq(st.fd(), sendQueue)
		must(t, err)
	}
	must(t, g.end.Close())
	var ws unix.WaitStatus
	_, err = unix.Wait4(g.child.PID, &ws, unix.WALL, nil)
	must(t, err)
	if !ws.Exited() || ws.ExitStatus() != 0 {
		t.Fatalf("the guard ended with %#x", uint32(ws))
	}
	sameStream(t, was[0], factsOf(t, c))
	sameStream(t, was[1], factsOf(t, s))
	chat(t, c, s)
}
