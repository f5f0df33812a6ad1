package cgroup

import (
	"testing"

	"ckpt/procfs"
)

func TestDiffer(t *testing.T) {
	old := []procfs.Cgroup{{ID: 4, Controllers: "memory", Path: "/a"}, {ID: 1, Controllers: "name=systemd", Path: "/s"}, {ID: 0, Path: "/a"}}
	for _, c := range []struct {
		a, b         []procfs.Cgroup
		mine, others string
	}{
		{nil, nil, "", ""},
		{old, old, "", ""},
		{old, nil, "", ""}, // not to be seen
		{old, []procfs.Cgroup{{ID: 4, Controllers: "memory", Path: "/a"}, {ID: 0, Path: "/b"}}, "/a", "/b"},
		{old, []procfs.Cgroup{{ID: 0, Path: "/a"}, {ID: 4, Controllers: "memory", Path: "/a/below"}}, "/a (memory)", "/a/below"},
	} {
		mine, others, ok := differ(c.a, c.b)
		if mine != c.mine || others != c.others || ok != (c.mine != "") {
			t.Errorf("%v, %v: %q, %q, %v", c.a, c.b, mine, others, ok)
		}
	}
}
