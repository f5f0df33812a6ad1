package procfs

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// sleeper starts a process that waits until its standard input closes.
func sleeper(t *testing.T) (*exec.Cmd, *Proc) {
	t.Helper()
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := Open(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait(); p.Close() })
	return cmd, p
}

func TestSelf(t *testing.T) {
	p, err := Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	st, err := p.Status()
	if err != nil {
		t.Fatal(err)
	}
	stat, err := p.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if st.Pid != os.Getpid() || stat.Pid != os.Getpid() || st.PPid != os.Getppid() || stat.PPid != os.Getppid() {
		t.Errorf("status %d of %d, stat %d of %d", st.Pid, st.PPid, stat.Pid, stat.PPid)
	}
	if comm, err := p.Comm(); err != nil || comm != st.Name || comm != stat.Comm {
		t.Errorf("comm %q, status %q, stat %q: %v", comm, st.Name, stat.Comm, err)
	}
	if args, err := p.Cmdline(); err != nil || !slices.Equal(args, os.Args) {
		t.Errorf("%q: %v", args, err)
	}
	if env, err := p.Environ(); err != nil || len(env) == 0 {
		t.Errorf("%d variables: %v", len(env), err)
	}
	if auxv, err := p.Auxv(); err != nil || len(auxv)%16 != 0 || len(auxv) == 0 {
		t.Errorf("%d bytes of auxv: %v", len(auxv), err)
	}
	wd, _ := os.Getwd()
	if cwd, err := p.Link("cwd"); err != nil || cwd != wd {
		t.Errorf("cwd %q: %v", cwd, err)
	}
	ns, err := p.StatLink("ns/pid")
	if err != nil || ns.Ino == 0 {
		t.Errorf("ns/pid: %d %v", ns.Ino, err)
	}
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		t.Fatal(err)
	}
	if l, err := p.Limits(); err != nil || l[unix.RLIMIT_NOFILE] != (Limit{lim.Cur, lim.Max}) {
		t.Errorf("%v, want %v: %v", l[unix.RLIMIT_NOFILE], lim, err)
	}
	if ns, err := p.SchedExecStart(); err != nil || ns == 0 {
		t.Errorf("exec start %d: %v", ns, err)
	}
	if _, err := p.Timers(); err != nil {
		t.Error(err)
	}
	if ms, err := p.MountInfo(); err != nil || len(ms) == 0 {
		t.Errorf("%d mounts: %v", len(ms), err)
	}
	if v, err := p.OOMScoreAdj(); err != nil || v < -1000 || v > 1000 {
		t.Errorf("oom_score_adj %d: %v", v, err)
	}
	if v, _, err := p.Autogroup(); err != nil || v < -20 || v > 19 {
		t.Errorf("autogroup nice %d: %v", v, err)
	}
	if _, err := p.Personality(); err != nil {
		t.Error(err)
	}
	if f, err := p.CoredumpFilter(); err != nil || f == 0 {
		t.Errorf("coredump_filter %x: %v", f, err)
	}
}

func TestThread(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p, err := Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	tid := unix.Gettid()
	th, err := p.Thread(tid)
	if err != nil {
		t.Fatal(err)
	}
	defer th.Close()
	if st, err := th.Status(); err != nil || st.Pid != tid || st.Tgid != os.Getpid() {
		t.Errorf("%+v %v", st, err)
	}
	if all, err := p.Tasks(); err != nil || !slices.Contains(all, tid) {
		t.Errorf("%v lacks %d: %v", all, tid, err)
	}
	if _, err := p.Thread(1); !errors.Is(err, unix.ESRCH) {
		t.Errorf("a thread of another process: %v", err)
	}
}

func TestChildrenAndDescriptors(t *testing.T) {
	cmd, child := sleeper(t)
	p, err := Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if all, err := p.Children(); err != nil || !slices.Contains(all, cmd.Process.Pid) {
		t.Errorf("%v lacks %d: %v", all, cmd.Process.Pid, err)
	}
	fds, err := child.FDs()
	if err != nil || !slices.Contains(fds, 0) {
		t.Fatalf("%v: %v", fds, err)
	}
	link, err := child.FDLink(0)
	if err != nil {
		t.Fatal(err)
	}
	st, err := child.FDStat(0)
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		t.Errorf("%q has mode %o: %v", link, st.Mode, err)
	}
	if info, err := child.FDInfo(0); err != nil || info.Flags&unix.O_ACCMODE != unix.O_RDONLY {
		t.Errorf("%+v: %v", info, err)
	}
}

func TestMapsOfAwkwardNames(t *testing.T) {
	dir := t.TempDir()
	var want []Map
	for _, c := range []struct {
		name string
		gone bool
	}{{"a (deleted)", false}, {`b\012`, false}, {"c\n", false}, {"d", true}, {`e \012 (deleted)`, true}} {
		path := filepath.Join(dir, c.name)
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := f.Truncate(4096); err != nil {
			t.Fatal(err)
		}
		b, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_SHARED)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Munmap(b)
		if c.gone {
			os.Remove(path)
		}
		want = append(want, Map{Path: path, Deleted: c.gone})
	}
	p, err := Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for name, read := range map[string]func() ([]Map, error){"maps": p.MapsOnly, "smaps": p.Maps} {
		ms, err := read()
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !slices.ContainsFunc(ms, func(m Map) bool { return m.Path == w.Path && m.Deleted == w.Deleted }) {
				t.Errorf("%s lacks %q (deleted: %v)", name, w.Path, w.Deleted)
			}
		}
	}
}

// A reaped process is ESRCH for every reader, never another process's data.
func TestReaped(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := Open(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	st, err := p.Status()
	if err != nil || !st.Zombie() || st.HasVM {
		t.Errorf("zombie: %+v %v", st, err)
	}
	if ms, err := p.Maps(); err != nil || len(ms) != 0 {
		t.Errorf("zombie: %d mappings, %v", len(ms), err)
	}
	if args, err := p.Cmdline(); err != nil || len(args) != 0 {
		t.Errorf("zombie: %q, %v", args, err)
	}
	if !p.Alive() {
		t.Error("a zombie does not count as alive")
	}
	link, err := openat(p.fd, "ns/cgroup", unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(link)
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	// What a reader meets whose process ends between the finding of a link and
	// the reading of it.
	if _, err = unix.Readlinkat(link, "", make([]byte, 256)); !errors.Is(err, unix.EACCES) {
		t.Errorf("a link found before: %v", err)
	}
	if err := p.wrap("read link", "ns/cgroup", err); !errors.Is(err, unix.ESRCH) {
		t.Error(err)
	}
	for name, read := range map[string]func() error{
		"status":   func() error { _, err := p.Status(); return err },
		"stat":     func() error { _, err := p.Stat(); return err },
		"maps":     func() error { _, err := p.MapsOnly(); return err },
		"fd":       func() error { _, err := p.FDs(); return err },
		"fdinfo":   func() error { _, err := p.FDInfo(0); return err },
		"task":     func() error { _, err := p.Tasks(); return err },
		"children": func() error { _, err := p.Children(); return err },
		"thread":   func() error { _, err := p.Thread(cmd.Process.Pid); return err },
		"link":     func() error { _, err := p.Link("exe"); return err },
		"loginuid": func() error { _, _, err := p.LoginUID(); return err },
		"timens":   func() error { _, err := p.TimensOffsets(); return err },
		"syscall":  func() error { _, err := p.Syscall(); return err },
		"write":    func() error { return p.Write("oom_score_adj", "0") },
	} {
		if err := read(); !errors.Is(err, unix.ESRCH) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Open(cmd.Process.Pid); !errors.Is(err, unix.ESRCH) {
		t.Errorf("open: %v", err)
	}
}

func BenchmarkStatus(b *testing.B) {
	p, err := Open(os.Getpid())
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	for b.Loop() {
		if _, err := p.Status(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseStatus(b *testing.B) {
	text := fixture(b, "status")
	for b.Loop() {
		if _, err := parseStatus(text); err != nil {
			b.Fatal(err)
		}
	}
}
