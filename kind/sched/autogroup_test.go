package sched

import (
	"errors"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/pstree"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/kind/kindtest"
	"ckpt/pidns"
	"ckpt/procfs"
)

// The nice value of a session comes back; who may not raise one is told.
func TestAutogroups(t *testing.T) {
	b := kindtest.NewBare(t)
	sid := b.Call(unix.SYS_SETSID)
	target := func(nice int32) []*kind.Target {
		return []*kind.Target{{Host: pidns.HostPID(b.Thread.PID), Entry: &pstree.PstreeEntry{Sid: proto.Uint32(uint32(sid))},
			Extra: &image.Task{AutogroupNice: nice}}}
	}
	b.Restore.Targets = target(-4)
	_, setter := Autogroups()
	if err := setter.Finish(b.Restore); err != nil {
		t.Fatal(err)
	}
	p, err := procfs.Open(b.Thread.PID)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if nice, ok, err := p.Autogroup(); nice != -4 || !ok || err != nil {
		t.Errorf("nice %d, %v, %v", nice, ok, err)
	}
	b.Restore.Targets = target(-20)
	err = kernel.OnThread(func() error {
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&hdr, &none[0]); err != nil {
			return err
		}
		return setter.Finish(b.Restore)
	})
	if !errors.Is(err, failure.ErrUnsupported) || len(failure.Hints(err)) != 1 {
		t.Errorf("not allowed: %v, hints %q", err, failure.Hints(err))
	}
}
