package procfs

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestParseStatus(t *testing.T) {
	s, err := parseStatus(fixture(t, "status"))
	if err != nil {
		t.Fatal(err)
	}
	if s.Name != "a) (b\\ c\nd" {
		t.Errorf("name %q", s.Name)
	}
	if s.Umask != 0o22 || s.State != 'S' || s.Zombie() || s.Tgid != 9334 || s.PPid != 9332 || s.TracerPid != 0 || s.Threads != 1 {
		t.Errorf("ids and state: %+v", s)
	}
	if !slices.Equal(s.NSpid, []int{9334, 1}) || !slices.Equal(s.NStgid, []int{9334, 1}) ||
		!slices.Equal(s.NSpgid, []int{9323, 0}) || !slices.Equal(s.NSsid, []int{4471, 0}) {
		t.Errorf("namespaced ids: %v %v %v %v", s.NSpid, s.NStgid, s.NSpgid, s.NSsid)
	}
	if s.SigPnd != 1<<(unix.SIGUSR1-1) || s.SigBlk != 1<<63|1<<(unix.SIGUSR1-1) || s.SigIgn != 7 || s.SigQ != 4 {
		t.Errorf("signals: %x %x %x %d", s.SigPnd, s.SigBlk, s.SigIgn, s.SigQ)
	}
	if s.CapPrm != 0x1fffeffffff || s.CapAmb != 0 || s.Seccomp != 0 || s.NoNewPrivs {
		t.Errorf("credentials: %+v", s)
	}
	if s.UntagMask != 1<<64-1 || s.X86ThreadFeatures != "" {
		t.Errorf("x86: %x %q", s.UntagMask, s.X86ThreadFeatures)
	}
	if !s.HasVM || s.VmLck != 4096 || len(s.Groups) != 0 || s.CpusAllowed != "3" || s.CpusAllowedList != "0-1" {
		t.Errorf("rest: %+v", s)
	}
}

func TestParseStatusWrong(t *testing.T) {
	for name, text := range map[string]string{
		"empty":     "",
		"cut off":   "Name:\tx\nState:\tS (sleeping)\n",
		"three ids": "State:\tS\nPid:\t1\nUid:\t1\t2\t3\n",
		"mask":      "State:\tS\nPid:\t1\nSigBlk:\txyz\n",
		"id":        "State:\tS\nPid:\t1\nUid:\t1\t2\t3\t4294967296\n",
	} {
		if _, err := parseStatus([]byte(text)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestParseStat(t *testing.T) {
	s, err := parseStat(fixture(t, "stat"))
	if err != nil {
		t.Fatal(err)
	}
	want := &Stat{Pid: 9334, Comm: "a) (b\\ c\nd", State: 'S', PPid: 9332, PGrp: 9323, Session: 4471, TPGid: -1, Flags: 4194560,
		Priority: 20, NumThreads: 1, StartTime: 134582, VSize: 2560000, RSS: 331,
		StartCode: 94532685193216, EndCode: 94532685194973, StartStack: 140725951624144, ExitSignal: 17,
		StartData: 94532685204944, EndData: 94532685205728, StartBrk: 94533131227136,
		ArgStart: 140725951625930, ArgEnd: 140725951625938, EnvStart: 140725951625938, EnvEnd: 140725951627248}
	if d := cmp.Diff(want, s); d != "" {
		t.Error(d)
	}
	for _, text := range []string{"", "1 (x", "1 x) S", "1 (x) SS 1", "1 (x) S 1 2 3"} {
		if _, err := parseStat([]byte(text)); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}

func TestTTYMajorMinor(t *testing.T) {
	// new_encode_dev(MKDEV(136, 1027)): pts/1027
	s := Stat{TTYNr: 1027&0xff | 136<<8 | 1027&^0xff<<12}
	if ma, mi := s.TTYMajorMinor(); ma != 136 || mi != 1027 {
		t.Errorf("%d:%d", ma, mi)
	}
}

func TestParseMaps(t *testing.T) {
	cheap, err := parseMaps(fixture(t, "maps"))
	if err != nil {
		t.Fatal(err)
	}
	full, err := parseMaps(fixture(t, "smaps"))
	if err != nil {
		t.Fatal(err)
	}
	if len(cheap) != len(full) {
		t.Fatalf("%d mappings in maps, %d in smaps", len(cheap), len(full))
	}
	for i := range cheap {
		f := full[i]
		f.Flags, f.Rss, f.Anonymous, f.AnonHugePages, f.Swap, f.PageSize, f.ProtectionKey = nil, 0, 0, 0, 0, 0, 0
		if d := cmp.Diff(cheap[i], f); d != "" {
			t.Error(d)
		}
	}
	at := func(path string) *Map {
		i := slices.IndexFunc(full, func(m Map) bool { return m.Path == path })
		if i < 0 {
			t.Fatalf("no mapping %q", path)
		}
		return &full[i]
	}
	if m := at("/opt/demo/gone"); !m.Deleted || m.Ino != 9978644 || m.Dev != unix.Mkdev(0xfe, 0) || m.Prot() != unix.PROT_READ || m.Shared {
		t.Errorf("deleted file: %+v", m)
	}
	if m := at("/opt/demo/new\nline \n"); !m.Deleted || m.Offset != 4096 || !m.Shared || !m.Write {
		t.Errorf("escaped file: %+v", m)
	}
	if m := at("/memfd:shm"); !m.Deleted || !m.File() || m.Rss != 0 || m.PageSize != 4096 {
		t.Errorf("memfd: %+v", m)
	}
	if m := at("[vdso]"); !m.IsSpecial() || !m.IsVDSO() || m.IsVvar() || m.File() || m.Len() != 8192 {
		t.Errorf("vdso: %+v", m)
	}
	if m := at("[vvar_vclock]"); !m.IsSpecial() || !m.IsVvar() {
		t.Errorf("vvar_vclock: %+v", m)
	}
	if m := at("[stack]"); !m.Has("gd") || m.Has("lo") || m.IsSpecial() || m.Prot() != unix.PROT_READ|unix.PROT_WRITE {
		t.Errorf("stack: %+v", m)
	}
	if i := slices.IndexFunc(full, func(m Map) bool { return m.Has("lo") }); i < 0 || !full[i].Has("dc") || full[i].Path != "" || full[i].Rss != 4096 {
		t.Errorf("locked mapping: %d", i)
	}
}

func TestParseMapsWrong(t *testing.T) {
	for _, text := range []string{
		"Rss: 4 kB\n",
		"1000-2000 rw-p 0 00:00\n",
		"2000-1000 rw-p 00000000 00:00 0 \n",
		"1000-2000 rw- 00000000 00:00 0 \n",
		"1000-2000 rw-p 00000000 00:00 0 \nRss: x kB\n",
		"1000-2000 rw-p 00000000 100000000:00 0 \n",
	} {
		if _, err := parseMaps([]byte(text)); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}

func TestParseFDInfo(t *testing.T) {
	for _, c := range []struct {
		name string
		want FDInfo
	}{
		{"fdinfo/6", FDInfo{Flags: 0o2004002, MntID: 17, Ino: 1036, Lines: []string{"eventfd-count:                7", "eventfd-id: 1", "eventfd-semaphore: 0"}}},
		{"fdinfo/7", FDInfo{Flags: 0o2, MntID: 17, Ino: 1036, Lines: []string{"tfd:        6 events:       19 data:             1122  pos:0 ino:40c sdev:10"}}},
	} {
		got, err := parseFDInfo(fixture(t, c.name))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(&c.want, got); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
	}
	old, err := parseFDInfo([]byte("pos:\t-1\nflags:\t02\nmnt_id:\t9\nsize:\t4\nflags:\t7\n"))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(&FDInfo{Pos: -1, Flags: 2, MntID: 9, Lines: []string{"size:\t4", "flags:\t7"}}, old); d != "" {
		t.Error("a file's own line of a common name: ", d)
	}
	if _, err := parseFDInfo([]byte("pos:\t0\n")); err == nil {
		t.Error("cut off: no error")
	}
}

func TestLocks(t *testing.T) {
	f, err := parseFDInfo(fixture(t, "fdinfo/4"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := f.Locks()
	if err != nil {
		t.Fatal(err)
	}
	dev := unix.Mkdev(0xfe, 0)
	want := []Lock{
		{Type: "FLOCK", Mode: "ADVISORY", Access: "WRITE", PID: 9334, Dev: dev, Ino: 9978644, End: LockEOF},
		{Type: "POSIX", Mode: "ADVISORY", Access: "WRITE", PID: 9334, Dev: dev, Ino: 9978644, Start: 5, End: 14},
		{Type: "OFDLCK", Mode: "ADVISORY", Access: "READ", PID: -1, Dev: dev, Ino: 9978644, Start: 100, End: LockEOF},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	l, err := parseLock([]byte("7: -> LEASE  BREAKING  READ 12 00:1a:3 0 EOF"))
	if err != nil || !l.Blocked || l.Mode != "BREAKING" || l.Write() {
		t.Errorf("%+v %v", l, err)
	}
	if _, err := parseLock([]byte("7: POSIX ADVISORY READ 12 <none>:0 0 EOF")); err == nil {
		t.Error("a lock without a file: no error")
	}
}

func TestParseTimers(t *testing.T) {
	got, err := parseTimers(fixture(t, "timers"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Timer{
		{ID: 0, Signal: 34, Value: 0x1234567890, Notify: NotifySignal, Target: 9334, ClockID: 1},
		{ID: 1, Signal: 34, Value: 0x1234567890, Notify: NotifyNone, Target: 9334, ClockID: 0},
		{ID: 2, Signal: 34, Value: 0x1234567890, Notify: NotifyThreadID, Target: 9334, ClockID: -6},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for _, text := range []string{"signal: 1/2\n", "ID: x\n", "ID: 0\nsignal: 1\n", "ID: 0\nnotify: smoke/pid.1\n", "ID: 0\nnotify: signal\n"} {
		if _, err := parseTimers([]byte(text)); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}

func TestParseLimits(t *testing.T) {
	got, err := parseLimits(fixture(t, "limits"))
	if err != nil {
		t.Fatal(err)
	}
	for r, want := range map[int]Limit{
		unix.RLIMIT_CPU:     {Unlimited, Unlimited},
		unix.RLIMIT_STACK:   {8388608, Unlimited},
		unix.RLIMIT_CORE:    {0, Unlimited},
		unix.RLIMIT_NPROC:   {96365, 96365},
		unix.RLIMIT_NOFILE:  {20000, 20000},
		unix.RLIMIT_MEMLOCK: {8388608, 8388608},
		unix.RLIMIT_NICE:    {0, 0},
		unix.RLIMIT_RTTIME:  {Unlimited, Unlimited},
	} {
		if got[r] != want {
			t.Errorf("%s: %v, want %v", LimitName(r), got[r], want)
		}
	}
	if _, err := parseLimits([]byte("Max cpu time  1 2\n")); err == nil {
		t.Error("cut off: no error")
	}
}

func TestParseMountInfo(t *testing.T) {
	ms, err := parseMountInfo(fixture(t, "mountinfo"))
	if err != nil {
		t.Fatal(err)
	}
	got := ms[len(ms)-2:]
	want := []Mount{
		{ID: 64, Parent: 43, Dev: unix.Mkdev(0, 40), Root: "/a b", Point: `/mnt/x\y z`, Options: "ro,nosuid", Shared: 7, Master: 3, Propagate: 2,
			Unbindable: true, Type: "fuse.sshfs", Source: "host:/dir one", Super: "rw,user_id=0"},
		{ID: 65, Parent: 43, Dev: unix.Mkdev(0, 41), Root: "/", Point: "/mnt/none", Options: "rw", Type: "tmpfs", Super: "rw,size=4k"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if !got[0].HasOption("ro") || !got[0].HasOption("user_id=0") || got[0].HasOption("nosui") {
		t.Error("HasOption")
	}
	for _, text := range []string{"1 2 0:1 / /\n", "1 2 0:1 / / rw shared:7\n", "1 2 0-1 / / rw - a b c\n", "1 2 0:1 / / rw - ext4 x\n"} {
		if _, err := parseMountInfo([]byte(text)); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}

func TestParseNamespaces(t *testing.T) {
	m, err := parseIDMap([]byte("         0       1000          1\n       100     100000      65536\n"))
	if err != nil {
		t.Fatal(err)
	}
	if in, ok := m.Inside(1000); !ok || in != 0 {
		t.Error("1000 is not 0 inside")
	}
	if in, ok := m.Inside(165535); !ok || in != 65635 {
		t.Error("the last id of a range")
	}
	if _, ok := m.Inside(165536); ok {
		t.Error("an id behind the range is mapped")
	}
	if out, ok := m.Outside(100); !ok || out != 100000 {
		t.Error("100 is not 100000 outside")
	}
	if all, err := parseIDMap(fixture(t, "uid_map")); err != nil || !slices.Equal(all, IDMaps{{0, 0, 1<<32 - 1}}) {
		t.Errorf("%v %v", all, err)
	}
	off, err := parseTimens([]byte("monotonic   -5         999999999\nboottime            0         0\n"))
	if err != nil || !slices.Equal(off, []TimensOffset{{"monotonic", -5, 999999999}, {"boottime", 0, 0}}) {
		t.Errorf("%v %v", off, err)
	}
	cg, err := parseCgroup(fixture(t, "cgroup"))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(cg, Cgroup{4, "memory", "/jobs/a:b"}) || !slices.Contains(cg, Cgroup{0, "", "/user.slice/demo.scope"}) {
		t.Errorf("%v", cg)
	}
}

func TestParseExecStart(t *testing.T) {
	if v, err := parseExecStart(fixture(t, "sched")); err != nil || v != 1345758194977 {
		t.Errorf("%d %v", v, err)
	}
	// A thread may call itself anything.
	text := strings.Replace(string(fixture(t, "sched")), "a) (b\\ c\nd", "x\nse.exec_start", 1)
	if v, err := parseExecStart([]byte(text)); err != nil || v != 1345758194977 {
		t.Errorf("%d %v", v, err)
	}
	if _, err := parseExecStart(nil); err == nil {
		t.Error("empty: no error")
	}
}

func TestParseStrings(t *testing.T) {
	for text, want := range map[string][]string{"": nil, "a\x00": {"a"}, "a\x00\x00b": {"a", "", "b"}, "\x00": {""}} {
		if got := parseStrings([]byte(text)); !slices.Equal(got, want) {
			t.Errorf("%q: %q", text, got)
		}
	}
}

func TestNumbers(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "-1": -1, "9223372036854775807": 1<<63 - 1, "-9223372036854775808": -1 << 63} {
		if v, err := intOf([]byte(text)); err != nil || v != want {
			t.Errorf("%s: %d %v", text, v, err)
		}
	}
	for _, text := range []string{"", "-", "+1", "9223372036854775808", "-9223372036854775809", "1a", "18446744073709551616"} {
		if v, err := intOf([]byte(text)); err == nil {
			t.Errorf("%q: %d", text, v)
		}
	}
	if v, err := uintOf([]byte("ffffffffffffffff"), 16); err != nil || v != 1<<64-1 {
		t.Errorf("%x %v", v, err)
	}
	if v, err := uintOf([]byte("8"), 8); err == nil {
		t.Errorf("octal 8: %d", v)
	}
	if v, err := uintOf([]byte("18446744073709551616"), 10); err == nil {
		t.Errorf("2^64: %d", v)
	}
}

func TestIDMapsWithin(t *testing.T) {
	around := IDMaps{{0, 1000, 1}, {1, 100000, 10}}
	for _, c := range []struct {
		maps, around, want IDMaps
		ok                 bool
	}{
		{IDMaps{{0, 1000, 1}}, nil, IDMaps{{0, 1000, 1}}, true},
		{IDMaps{{7, 1000, 1}}, around, IDMaps{{7, 0, 1}}, true},
		{IDMaps{{0, 100002, 3}}, around, IDMaps{{0, 3, 3}}, true},
		{IDMaps{{0, 99999, 2}}, around, nil, false},
		{IDMaps{{0, 100008, 4}}, around, nil, false},
		{IDMaps{{0, 100008, 4}}, append(IDMaps{{50, 100010, 2}}, around...), IDMaps{{0, 9, 2}, {2, 50, 2}}, true},
		{IDMaps{{0, 0, 4294967295}}, IDMaps{{0, 0, 4294967295}}, IDMaps{{0, 0, 4294967295}}, true},
		{nil, around, nil, true},
	} {
		if got, ok := c.maps.Within(c.around); !slices.Equal(got, c.want) || ok != c.ok {
			t.Errorf("%v within %v: %v %v, want %v %v", c.maps, c.around, got, ok, c.want, c.ok)
		}
	}
}

func TestParseAutogroup(t *testing.T) {
	for text, want := range map[string]int{"/autogroup-291320 nice 0\n": 0, "/autogroup-1 nice -7\n": -7} {
		if nice, err := parseAutogroup([]byte(text)); nice != want || err != nil {
			t.Errorf("%q: %d, %v", text, nice, err)
		}
	}
	for _, text := range []string{"/autogroup-1\n", "/autogroup-1 nice x\n"} {
		if nice, err := parseAutogroup([]byte(text)); err == nil {
			t.Errorf("%q: %d", text, nice)
		}
	}
}
