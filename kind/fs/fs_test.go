package fs

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	fsimg "github.com/checkpoint-restore/go-criu/v7/crit/images/fs"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/kind"
	"ckpt/kind/kindtest"
	"ckpt/pidns"
	"ckpt/procfs"
	"ckpt/tracee"
)

// in starts a process that waits in dir.
func in(t *testing.T, dir string) *procfs.Proc {
	t.Helper()
	cmd := exec.Command("cat")
	cmd.Dir = dir
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := procfs.Open(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close(); cmd.Wait(); p.Close() })
	return p
}

// refusing is a dump that answers each directory with err.
func refusing(err error) *kind.Dump {
	return &kind.Dump{RefuseFile: func(*kind.Proc, *os.File, string) error { return err }}
}

func TestDump(t *testing.T) {
	dir := t.TempDir()
	fs := in(t, dir)
	st, err := fs.Status()
	if err != nil {
		t.Fatal(err)
	}
	p := &kind.Proc{Threads: []*kind.Task{{FS: fs, Status: st}}, FSE: &fsimg.FsEntry{}}
	if err := observe(refusing(nil), p); err != nil {
		t.Fatal(err)
	}
	ids := map[string]uint32{dir: 5, "/": 6}
	d := &kind.Dump{AddFile: func(_ *kind.Proc, f *os.File, link string) (uint32, error) {
		if ids[link] == 0 {
			t.Errorf("saves %q", link)
		}
		return ids[link], nil
	}}
	if _, err := ask(d, p, nil); err != nil {
		t.Fatal(err)
	}
	if p.FSE.GetCwdId() != 5 || p.FSE.GetRootId() != 6 || p.FSE.GetUmask() != st.Umask || p.FSE.Umask == nil {
		t.Errorf("%v", p.FSE)
	}
}

func TestDeletedDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	p := &kind.Proc{Threads: []*kind.Task{{FS: in(t, dir)}}}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := observe(refusing(nil), p); err != nil {
		t.Error(err)
	}
}

func TestRefusedDirectory(t *testing.T) {
	p := &kind.Proc{Threads: []*kind.Task{{FS: in(t, t.TempDir())}}}
	if err := observe(refusing(unix.ENODEV), p); !errors.Is(err, unix.ENODEV) {
		t.Error(err)
	}
}

// A directory whose name only looks deleted is not.
func TestDirectoryCalledDeleted(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "x (deleted)")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := observe(refusing(nil), &kind.Proc{Threads: []*kind.Task{{FS: in(t, dir)}}}); err != nil {
		t.Error(err)
	}
}

func TestRestore(t *testing.T) {
	dir := t.TempDir()
	open := func(path string) *os.File {
		f, err := os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	files := map[uint32]*os.File{1: open("/"), 2: open(dir)}
	r := &kind.Restore{HostProc: open("/proc"), File: func(id uint32) (*os.File, error) { return files[id], nil }}
	for _, c := range []struct {
		name  string
		root  uint32
		owns  bool
		fetch []string
		calls int
	}{
		{"own root", 1, true, []string{dir}, 2},
		{"chroot", 2, true, []string{dir, dir}, 4},
		{"shared", 2, false, nil, 0},
	} {
		var fetched []string
		tgt := &kind.Target{Host: pidns.HostPID(os.Getpid()), Main: tracee.NewScript(0x10000), OwnsFS: c.owns,
			FSE: &fsimg.FsEntry{CwdId: proto.Uint32(2), RootId: proto.Uint32(c.root), Umask: proto.Uint32(0o27)},
			Fetch: func(_ *tracee.Script, f *os.File) uint64 {
				fetched = append(fetched, f.Name())
				return 9
			},
			Drop: func(*tracee.Script, uint64) { fetched[len(fetched)-1] += "" },
		}
		if err := restore(r, tgt); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if tgt.Main.Len() != c.calls || len(fetched) != len(c.fetch) {
			t.Errorf("%s: %d calls, fetched %q", c.name, tgt.Main.Len(), fetched)
		}
	}
}

// From one process into another, one with a root of its own.
func TestRoundTrip(t *testing.T) {
	root := t.TempDir()
	cwd := filepath.Join(root, "sub")
	if err := os.Mkdir(cwd, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		calls func(s *tracee.Script)
	}{
		{"own root", func(s *tracee.Script) { s.Must(unix.SYS_CHDIR, s.Str(cwd)) }},
		{"chroot", func(s *tracee.Script) {
			s.Must(unix.SYS_CHROOT, s.Str(root))
			s.Must(unix.SYS_CHDIR, s.Str("/sub"))
		}},
		{"outside its root", func(s *tracee.Script) {
			s.Must(unix.SYS_CHDIR, s.Str("/"))
			s.Must(unix.SYS_CHROOT, s.Str(root))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var files []string
			kinds := kindtest.Kinds{Processes: []kind.Process{Kind()}}
			add := func(_ *kind.Proc, _ *os.File, link string) (uint32, error) {
				files = append(files, link)
				return uint32(len(files)), nil
			}
			first, second := kindtest.NewBare(t), kindtest.NewBare(t)
			first.Dump.AddFile, second.Dump.AddFile = add, add
			none := func(*kind.Proc, *os.File, string) error { return nil }
			first.Dump.RefuseFile, second.Dump.RefuseFile = none, none
			second.Restore.File = func(id uint32) (*os.File, error) {
				f, err := os.OpenFile(files[id-1], unix.O_PATH|unix.O_DIRECTORY, 0)
				if err == nil {
					t.Cleanup(func() { f.Close() })
				}
				return f, err
			}
			s := first.Script()
			c.calls(s)
			s.Must(unix.SYS_UMASK, 0o123)
			first.Run(s)
			p, err := first.Save(kinds)
			if err != nil {
				t.Fatal(err)
			}
			if err := second.Rebuild(kinds, p); err != nil {
				t.Fatal(err)
			}
			got, err := second.Save(kinds)
			if err != nil {
				t.Fatal(err)
			}
			if len(files) != 4 || files[0] != files[2] || files[1] != files[3] {
				t.Errorf("cwd and root %q", files)
			}
			if got.FSE.GetUmask() != 0o123 {
				t.Errorf("umask %o", got.FSE.GetUmask())
			}
		})
	}
}
