package pidns

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"ckpt/failure"
	"ckpt/image"
)

// shell is a container: init, a shell with a thread, a job whose group leader
// is gone, an orphan of a session that is gone, a zombie.
func shell(t *testing.T, offset HostPID) *Table {
	t.Helper()
	table := New()
	for _, r := range []Row{
		{ID: 1, TGID: 1, PGID: 1, SID: 1},
		{ID: 2, TGID: 2, PPID: 1, PGID: 2, SID: 2},
		{ID: 3, TGID: 2, PPID: 1, PGID: 2, SID: 2},
		{ID: 12, TGID: 12, PPID: 2, PGID: 11, SID: 2},
		{ID: 20, TGID: 20, PPID: 1, PGID: 18, SID: 18},
		{ID: 30, TGID: 30, PPID: 2, PGID: 2, SID: 2, Zombie: true},
	} {
		r.Host, r.Space = HostPID(r.ID)+offset, Init
		if err := table.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []VPID{1, 2, 11, 18, 0} {
		table.Hold(ChainOf([]int{5000 + int(id), int(id)}, 1), &Spaces{}, Init)
	}
	return table
}

func TestTranslate(t *testing.T) {
	table := shell(t, 1000)
	for _, c := range []struct {
		v    VPID
		h    HostPID
		ok   bool
		what string
	}{
		{2, 1002, true, "process"}, {3, 1003, true, "thread"}, {30, 1030, true, "zombie"},
		{11, 0, false, "group without a leader"}, {18, 0, false, "session without a leader"}, {99, 0, false, "nobody"},
	} {
		if h, ok := table.Host(c.v); h != c.h || ok != c.ok {
			t.Errorf("%s: Host(%d) = %d, %v", c.what, c.v, h, ok)
		}
		v, ok := table.Virtual(c.h)
		if ok != c.ok || ok && v != c.v {
			t.Errorf("%s: Virtual(%d) = %d, %v", c.what, c.h, v, ok)
		}
	}
	if v, ok := table.Virtual(0); ok {
		t.Errorf("Virtual(0) = %d: a held id has no host id", v)
	}
}

func TestAddTwice(t *testing.T) {
	table := shell(t, 0)
	err := table.Add(Row{ID: 12, TGID: 12, Host: 77})
	if err == nil || err.Error() != "id 12 is given twice: to host pid 12 and to 77" {
		t.Errorf("got %v", err)
	}
}

func TestRowsAndIdentities(t *testing.T) {
	table := shell(t, 1000)
	var ids []VPID
	held := map[VPID]bool{}
	for _, r := range table.Rows() {
		ids = append(ids, r.ID)
		if r.Held() {
			held[r.ID] = true
		}
	}
	if d := cmp.Diff([]VPID{1, 2, 3, 11, 12, 18, 20, 30}, ids); d != "" {
		t.Errorf("ids: -want +got:\n%s", d)
	}
	if d := cmp.Diff(map[VPID]bool{11: true, 18: true}, held); d != "" {
		t.Errorf("held: -want +got:\n%s", d)
	}
	want := []*image.Identity{
		{Id: 2, Tgid: 2, Ppid: 1, Pgid: 2, Sid: 2},
		{Id: 3, Tgid: 2, Ppid: 1, Pgid: 2, Sid: 2},
		{Id: 11},
		{Id: 12, Tgid: 12, Ppid: 2, Pgid: 11, Sid: 2},
		{Id: 18},
		{Id: 20, Tgid: 20, Ppid: 1, Pgid: 18, Sid: 18},
		{Id: 30, Tgid: 30, Ppid: 2, Pgid: 2, Sid: 2, Zombie: true},
	}
	if d := cmp.Diff(want, table.Identities(false), protocmp.Transform()); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if all := table.Identities(true); len(all) != len(want)+1 || all[0].GetId() != 1 {
		t.Errorf("with init: %v", all)
	}
}

func TestVerify(t *testing.T) {
	saved := shell(t, 1000).Identities(false)
	for _, c := range []struct {
		name     string
		image    func([]*image.Identity) []*image.Identity
		want     string
		sentinel error
	}{
		{"the same under other host ids", nil, "", nil},
		{"session", func(w []*image.Identity) []*image.Identity { w[3].Sid = 4; return w },
			"the session of id 12 is 2, the image says 4", nil},
		{"group", func(w []*image.Identity) []*image.Identity { w[3].Pgid = 12; return w },
			"the group of id 12 is 11, the image says 12", nil},
		{"parent", func(w []*image.Identity) []*image.Identity { w[5].Ppid = 2; return w },
			"the parent of id 20 is 1, the image says 2", nil},
		{"thread of another", func(w []*image.Identity) []*image.Identity { w[1].Tgid = 12; return w },
			"the process of id 3 is 2, the image says 12", nil},
		{"an id held by nobody", func(w []*image.Identity) []*image.Identity { w[2].Tgid = 11; return w },
			"the process of id 11 is 0, the image says 11", nil},
		{"alive", func(w []*image.Identity) []*image.Identity { w[6].Zombie = false; return w },
			"id 30: zombie is true, the image says false", nil},
		{"missing", func(w []*image.Identity) []*image.Identity { return append(w, &image.Identity{Id: 31, Tgid: 31}) },
			"id 31 is missing", nil},
		{"one too many", func(w []*image.Identity) []*image.Identity { return w[:6] },
			"id 30 (host pid 5030) is there and not in the image", nil},
		{"an id freed", func(w []*image.Identity) []*image.Identity { return append(w[:2], w[3:]...) },
			"id 11 (host pid 0) is there and not in the image", nil},
		{"the first of two", func(w []*image.Identity) []*image.Identity { w[0].Sid, w[3].Sid = 9, 9; return w },
			"the session of id 2 is 2, the image says 9", nil},
		{"twice", func(w []*image.Identity) []*image.Identity { return append(w, w[0]) },
			"id 2 stands twice in the table of ids", failure.ErrDamaged},
	} {
		t.Run(c.name, func(t *testing.T) {
			var want []*image.Identity
			for _, w := range saved {
				want = append(want, &image.Identity{Id: w.Id, Tgid: w.Tgid, Ppid: w.Ppid, Pgid: w.Pgid, Sid: w.Sid, Zombie: w.Zombie})
			}
			if c.image != nil {
				want = c.image(want)
			}
			err := shell(t, 5000).Verify(want)
			if got := text(err); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if c.sentinel != nil && !errors.Is(err, c.sentinel) {
				t.Errorf("not %v: %v", c.sentinel, err)
			}
		})
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
