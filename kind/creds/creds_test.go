package creds

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	criucreds "github.com/checkpoint-restore/go-criu/v7/crit/images/creds"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"ckpt/failure"
	"ckpt/kind"
	"ckpt/kind/kindtest"
	"ckpt/procfs"
)

func kinds() kindtest.Kinds {
	p, t := New()
	return kindtest.Kinds{Processes: []kind.Process{p}, Threads: []kind.Thread{t}}
}

const (
	chown     = 1 << unix.CAP_CHOWN
	setuid    = 1 << unix.CAP_SETUID
	setpcap   = 1 << unix.CAP_SETPCAP
	netBind   = 1 << unix.CAP_NET_BIND_SERVICE
	mknod     = 1 << unix.CAP_MKNOD
	noroot    = 1 // SECBIT_NOROOT
	capNumber = 1<<41 - 1
)

// Each case is given to a bare child, saved, and brought back in another.
func TestRoundTrip(t *testing.T) {
	all := kindtest.NewBare(t)
	p, err := all.Save(kinds())
	if err != nil {
		t.Fatal(err)
	}
	full := join(p.Threads[0].Core.ThreadCore.Creds.CapPrm)
	root := func(change func(*criucreds.CredsEntry)) *criucreds.CredsEntry {
		e := proto.Clone(p.Threads[0].Core.ThreadCore.Creds).(*criucreds.CredsEntry)
		change(e)
		return e
	}
	user := func(change func(*criucreds.CredsEntry)) *criucreds.CredsEntry {
		return root(func(e *criucreds.CredsEntry) {
			for i, id := range []**uint32{&e.Uid, &e.Euid, &e.Suid, &e.Fsuid, &e.Gid, &e.Egid, &e.Sgid, &e.Fsgid} {
				*id = proto.Uint32(uint32(1000 + i))
			}
			e.Groups = []uint32{4, 20, 70000}
			e.CapPrm, e.CapEff = split(0), split(0)
			change(e)
		})
	}
	for _, c := range []struct {
		name string
		e    *criucreds.CredsEntry
		amb  uint64
		nnp  bool
		pd   uint32
		dump int32
	}{
		{"as the child is", root(func(*criucreds.CredsEntry) {}), 0, false, 0, 1},
		{"user", user(func(*criucreds.CredsEntry) {}), 0, false, uint32(unix.SIGHUP), 1},
		{"user, one id", user(func(e *criucreds.CredsEntry) {
			e.Euid, e.Suid, e.Fsuid, e.Egid, e.Sgid, e.Fsgid = e.Uid, e.Uid, e.Uid, e.Gid, e.Gid, e.Gid
		}), 0, true, 0, 0},
		{"user with capabilities", user(func(e *criucreds.CredsEntry) {
			e.CapPrm, e.CapEff, e.CapInh = split(chown|netBind), split(netBind), split(netBind|mknod)
		}), netBind, false, 64, 1},
		{"small bounding set", user(func(e *criucreds.CredsEntry) { e.CapBnd = split(chown) }), 0, true, 0, 1},
		{"root without effective", root(func(e *criucreds.CredsEntry) { e.CapEff = split(0) }), 0, false, 0, 1},
		{"root in name only", root(func(e *criucreds.CredsEntry) {
			e.CapPrm, e.CapEff, e.CapBnd, e.Groups = split(0), split(0), split(0), []uint32{1}
		}), 0, true, 9, 0},
		{"securebits", user(func(e *criucreds.CredsEntry) {
			e.Secbits = proto.Uint32(noroot | noroot<<1 | keepCaps)
			e.CapPrm, e.CapEff = split(setuid), split(setuid)
		}), 0, false, 0, 1},
		{"no ambient to raise", user(func(e *criucreds.CredsEntry) {
			e.Secbits = proto.Uint32(1<<6 | 1<<7)
			e.CapPrm, e.CapEff, e.CapInh = split(setpcap), split(0), split(setpcap)
		}), setpcap, false, 0, 1},
		{"keep capabilities", root(func(e *criucreds.CredsEntry) { e.Secbits = proto.Uint32(keepCaps) }), 0, false, 0, 1},
		{"file system ids apart", root(func(e *criucreds.CredsEntry) { e.Fsuid, e.Fsgid = proto.Uint32(7), proto.Uint32(8) }), 0, false, 0, 1},
		{"effective id apart", root(func(e *criucreds.CredsEntry) {
			e.Euid, e.Fsuid, e.CapEff = proto.Uint32(7), proto.Uint32(7), split(0)
		}), 0, false, 0, 1},
		{"all capabilities, no root", user(func(e *criucreds.CredsEntry) { e.CapPrm, e.CapEff = split(full), split(full) }), 0, false, 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			first := kindtest.NewBare(t)
			src, err := first.Save(kinds())
			if err != nil {
				t.Fatal(err)
			}
			th := src.Threads[0]
			th.Core.ThreadCore.Creds, th.Extra.CapAmb, th.Extra.NoNewPrivs = c.e, c.amb, c.nnp
			addNewer(c.e, c.amb, c.nnp)
			if c.pd != 0 {
				th.Core.ThreadCore.PdeathSig = &c.pd
			}
			src.MM.Dumpable = &c.dump
			second := kindtest.NewBare(t)
			if err := second.Rebuild(kinds(), src); err != nil {
				t.Fatal(err)
			}
			got, err := second.Save(kinds())
			if err != nil {
				t.Fatal(err)
			}
			g := got.Threads[0]
			if d := cmp.Diff(th.Core.ThreadCore, g.Core.ThreadCore, protocmp.Transform()); d != "" {
				t.Errorf("credentials (-want +got):\n%s", d)
			}
			if g.Extra.CapAmb != c.amb || g.Extra.NoNewPrivs != c.nnp || got.MM.GetDumpable() != c.dump {
				t.Errorf("ambient %x, no_new_privs %v, dumpable %d", g.Extra.CapAmb, g.Extra.NoNewPrivs, got.MM.GetDumpable())
			}
		})
	}
}

// Who is already right is left alone: a thousand copies cost no calls.
func TestNoChangeNoCalls(t *testing.T) {
	b := kindtest.NewBare(t)
	id := identity{uid: [4]uint32{1, 1, 1, 1}, prm: 7, bnd: 7}
	s := b.Script()
	change(s, id, id, false)
	if s.Len() != 0 {
		t.Errorf("%d calls", s.Len())
	}
}

func TestCut(t *testing.T) {
	have := identity{inh: mknod, prm: chown | setuid, eff: chown, bnd: chown | setuid}
	w := identity{inh: chown | mknod | netBind, prm: chown | netBind, eff: netBind, bnd: capNumber, amb: netBind | chown}
	if missing := w.cut(have); missing != netBind|mknod {
		t.Errorf("missing %s", names(missing))
	}
	want := identity{inh: chown | mknod, prm: chown, bnd: chown | setuid, amb: chown}
	if d := cmp.Diff(want, w, cmp.AllowUnexported(identity{})); d != "" {
		t.Error(d)
	}
}

func TestMissingCapabilityIsSaid(t *testing.T) {
	b := kindtest.NewBare(t)
	p, err := b.Save(kinds())
	if err != nil {
		t.Fatal(err)
	}
	e := p.Threads[0].Core.ThreadCore.Creds
	const future = 1 << 60
	e.CapPrm = split(join(e.CapPrm) | future)
	var log bytes.Buffer
	b.Restore.Log = slog.New(slog.NewTextHandler(&log, nil))
	if err := b.Rebuild(kinds(), p); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "capability 60") || !strings.Contains(log.String(), "level=WARN") {
		t.Errorf("log: %s", log.String())
	}
}

func TestEntryInUserNamespace(t *testing.T) {
	s := &saver{uid: procfs.IDMaps{{Inside: 0, Outside: 1000, Count: 1}}, gid: procfs.IDMaps{{Inside: 0, Outside: 1000, Count: 1}}}
	st := &procfs.Status{Uid: [4]uint32{1000, 1000, 1000, 1000}, Gid: [4]uint32{1000, 1000, 1000, 1000}, Groups: []uint32{27, 1000}}
	e, err := s.entry(st)
	if err != nil {
		t.Fatal(err)
	}
	if e.GetUid() != 0 || e.GetFsgid() != 0 || !cmp.Equal(e.Groups, []uint32{overflow, 0}) {
		t.Errorf("%v", e)
	}
	st.Uid[2] = 0
	if _, err := s.entry(st); !errors.Is(err, failure.ErrUnsupported) || !strings.Contains(err.Error(), "user id 0") {
		t.Errorf("%v", err)
	}
}

func TestGroups(t *testing.T) {
	one := procfs.IDMaps{{Inside: 0, Outside: 1000, Count: 1}}
	every := procfs.IDMaps{{Inside: 0, Outside: 0, Count: 1<<32 - 1}}
	for _, c := range []struct {
		name       string
		gids       procfs.IDMaps
		denied     bool
		outer      []uint32
		have, want []uint32
		needed     bool
		err        error
	}{
		{"none", every, false, nil, nil, nil, false, nil},
		{"same, other order", every, false, nil, []uint32{1, 2}, []uint32{2, 1}, false, nil},
		{"other", every, false, nil, []uint32{1}, []uint32{2}, true, nil},
		{"none wanted", every, false, nil, []uint32{1}, nil, true, nil},
		{"those of another user", one, true, nil, []uint32{overflow, overflow, 0}, []uint32{overflow, 0}, false, nil},
		{"65534 that has a number", every, false, nil, []uint32{overflow}, nil, true, nil},
		{"denied", one, true, nil, []uint32{overflow}, []uint32{5}, false, failure.ErrUnsupported},
		{"denied, of another number", one, true, []uint32{6}, []uint32{overflow}, []uint32{5}, false, failure.ErrUnsupported},
		{"still those of the user", one, true, []uint32{0, 7, 5}, []uint32{overflow, overflow, 0}, []uint32{5, 7, 0}, false, nil},
		{"one of them no more", one, true, []uint32{0, 5}, []uint32{overflow, 0}, []uint32{5, 7, 0}, false, failure.ErrUnsupported},
	} {
		m := &maker{gids: c.gids, denied: c.denied, outer: c.outer, bare: procfs.Status{Groups: c.have}}
		needed, err := m.groups(c.want)
		if needed != c.needed || !errors.Is(err, c.err) {
			t.Errorf("%s: %v %v", c.name, needed, err)
		}
	}
}

func TestReach(t *testing.T) {
	all := func(id uint32) [4]uint32 { return [4]uint32{id, id, id, id} }
	own := procfs.IDMaps{{Inside: 1000, Outside: 1000, Count: 1}}
	every := procfs.IDMaps{{Inside: 0, Outside: 0, Count: 1<<32 - 1}}
	mine := identity{uid: all(1000), gid: all(1000)}
	for _, c := range []struct {
		name     string
		ids      procfs.IDMaps
		uid, gid [4]uint32
		hint     string // "": is let pass
	}{
		{"his own", own, all(1000), all(1000), ""},
		{"root's", own, all(0), all(0), "restore as root"},
		{"another's", own, all(7), all(7), "restore as user 7, or as root"},
		{"saved ids of root", own, [4]uint32{1000, 1000, 0, 1000}, all(1000), "restore as root"},
		{"another group", own, all(1000), [4]uint32{1000, 5, 5, 5}, "restore as user 1000, or as root"},
		{"by root", every, all(7), all(8), ""},
	} {
		m := &maker{uids: c.ids, gids: c.ids}
		err := m.reach(identity{uid: c.uid, gid: c.gid}, mine)
		hints := failure.Hints(err)
		if c.hint == "" && err != nil || c.hint != "" && (!errors.Is(err, failure.ErrUnsupported) || len(hints) != 1 || hints[0] != c.hint) {
			t.Errorf("%s: %v %q", c.name, err, hints)
		}
	}
}

func TestCheckLabel(t *testing.T) {
	for label, ok := range map[string]bool{
		"": true, "unconfined": true, "unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023": true,
		"docker-default (enforce)": false, "system_u:system_r:httpd_t:s0": false, "ours (enforce)": true,
	} {
		err := checkLabel(label, "ours (enforce)")
		if (err == nil) != ok || err != nil && !errors.Is(err, failure.ErrUnsupported) {
			t.Errorf("%q: %v", label, err)
		}
	}
}

func TestNames(t *testing.T) {
	if got := names(chown | 1<<40 | 1<<41); got != "CAP_CHOWN CAP_CHECKPOINT_RESTORE capability 41" {
		t.Error(got)
	}
}
