package restore

import (
	"os"
	"runtime"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/pstree"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/container"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/tracee"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// inContainer is a restore that has come as far as vpid 1, whose children
// these will be. It ends with the test.
func inContainer(t *testing.T, vpids ...int) *session {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root makes a container without entering a user namespace before")
	}
	runtime.LockOSThread() // which ends with the test
	root, err := container.Create(container.Spec{})
	must(t, err)
	t.Cleanup(func() { must(t, root.Destroy()) })
	s := &session{root: root, places: map[pidns.VPID]place{pidns.Init: place{}.born(0)}, born: map[pidns.VPID]pidns.Chain{}, stubs: map[pidns.VPID]*tracee.Thread{pidns.Init: root.Thread}, ended: map[pidns.VPID]bool{}, heirs: map[pidns.VPID]pidns.VPID{}, bequeathed: map[pidns.VPID]bool{}, executed: map[pidns.VPID]bool{},
		r: &kind.Restore{Manifest: &image.Manifest{LastPid: 1000}}}
	must(t, s.enter())
	t.Cleanup(s.close)
	for _, v := range vpids {
		s.r.Targets = append(s.r.Targets, &kind.Target{VPID: pidns.VPID(v), IDs: &criu_core.TaskKobjIdsEntry{}, Extra: &image.Task{ExitSignal: uint32(unix.SIGCHLD)},
			TC:      &criu_core.TaskCoreEntry{Comm: proto.String("program")},
			Entry:   &pstree.PstreeEntry{Pid: proto.Uint32(uint32(v)), Ppid: proto.Uint32(1), Pgid: proto.Uint32(1), Sid: proto.Uint32(1)},
			Threads: []*kind.TargetThread{{VTID: pidns.VPID(v)}}})
	}
	return s
}
