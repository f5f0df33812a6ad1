package mounts

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ckpt/failure"
	"ckpt/kind/kindtest"
	"ckpt/procfs"
)

func TestCompare(t *testing.T) {
	root := procfs.Mount{Dev: 1, Root: "/", Point: "/", Options: "rw", Type: "ext4"}
	proc := procfs.Mount{Dev: 2, Root: "/", Point: "/proc", Options: "rw", Type: "proc"}
	tmp := procfs.Mount{Dev: 3, Root: "/", Point: "/tmp", Options: "rw,nosuid", Type: "tmpfs", Shared: 7}
	with := func(m procfs.Mount, change func(*procfs.Mount)) procfs.Mount {
		change(&m)
		return m
	}
	own := []procfs.Mount{root, proc, tmp}
	for _, c := range []struct {
		name string
		its  []procfs.Mount
		want []string
	}{
		{"the same", own, nil},
		{"with a /proc of its own, and not shared", append(own[:2:2], with(tmp, func(m *procfs.Mount) { m.Shared = 0 }),
			with(proc, func(m *procfs.Mount) { m.Dev = 9 })), nil},
		{"fewer", own[:2], nil},
		{"one more", append(own[:3:3], procfs.Mount{Dev: 5, Root: "/", Point: "/mnt", Options: "rw", Type: "tmpfs"}),
			[]string{"tmpfs was mounted on /mnt inside the container"}},
		{"the same twice", append(own[:3:3], tmp), []string{"tmpfs was mounted on /tmp inside the container"}},
		{"a part of another", append(own[:3:3], with(root, func(m *procfs.Mount) { m.Root, m.Point = "/etc", "/mnt" })),
			[]string{"/etc (ext4) was mounted on /mnt inside the container"}},
		{"other options", []procfs.Mount{root, proc, with(tmp, func(m *procfs.Mount) { m.Options = "ro" })},
			[]string{"/tmp was mounted anew with other options inside the container (ro)"}},
	} {
		var got []string
		for _, err := range compare(c.its, own) {
			if !errors.Is(err, failure.ErrUnsupported) || len(failure.Hints(err)) == 0 {
				t.Errorf("%s: %v, hints %q", c.name, err, failure.Hints(err))
			}
			got = append(got, fmt.Sprint(err))
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
	}
}

func TestObserve(t *testing.T) {
	if _, err := kindtest.New(t).Observe(Kind()); err != nil {
		t.Error(err)
	}
}
