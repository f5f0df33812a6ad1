package image

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"ckpt/failure"
)

func TestImageAppearsWholeOrNotAtAll(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "img")
	w := create(t, dir)
	check(t, w.Add(PSTree, "", pstreeEntry(2)))
	if exists(dir) {
		t.Error("the image has its name before Commit")
	}
	check(t, w.Commit(&Manifest{Name: "a"}))
	check(t, w.Abort()) // must leave the finished image alone
	if got, want := names(t, dir), []string{"ckpt.img", "pstree.img"}; !cmp.Equal(got, want) {
		t.Errorf("files %v, want %v", got, want)
	}
	if exists(dir + ".partial") {
		t.Error("DIR.partial is left")
	}
	if err := w.Add(PSTree, "", pstreeEntry(3)); err == nil {
		if err = w.Commit(&Manifest{}); err == nil {
			t.Error("a second Commit succeeded")
		}
	}
}

func TestModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "img")
	sample(t, dir)
	check(t, filepath.Walk(dir, func(path string, fi os.FileInfo, err error) error {
		want := os.FileMode(0o600)
		if fi.IsDir() {
			want = 0o700
		}
		if fi.Mode().Perm() != want {
			t.Errorf("%s has mode %o, want %o", path, fi.Mode().Perm(), want)
		}
		return err
	}))
}

func TestAbortLeavesNothing(t *testing.T) {
	top := t.TempDir()
	w := create(t, filepath.Join(top, "img"))
	check(t, w.Add(PSTree, "", pstreeEntry(2)))
	_, err := w.Pages("2")
	check(t, err)
	check(t, w.Abort())
	check(t, w.Abort())
	if left := names(t, top); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestPlaces(t *testing.T) {
	top := t.TempDir()
	check(t, os.Mkdir(filepath.Join(top, "empty"), 0o755))
	check(t, os.Mkdir(filepath.Join(top, "full"), 0o755))
	check(t, os.WriteFile(filepath.Join(top, "full", "x"), nil, 0o600))
	check(t, os.WriteFile(filepath.Join(top, "file"), nil, 0o600))
	check(t, os.Mkdir(filepath.Join(top, "target"), 0o755))
	check(t, os.Symlink("target", filepath.Join(top, "link")))
	for _, tt := range []struct{ name, want string }{
		{"absent", ""},
		{"empty", ""},
		{"link", ""},
		{"full", "it is not empty"},
		{"file", "it is not a directory"},
		{"file/img", "file is not a directory"},
		{"x.partial", "kept for unfinished images"},
		{"no/such/parent", "there is no directory "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(top, tt.name)
			w, err := Create(dir, Options{})
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Fatalf("error %v, want one with %q", err, tt.want)
				}
				return
			}
			check(t, err)
			check(t, w.Commit(&Manifest{Name: tt.name}))
			if m := open(t, dir).Manifest(); m.GetName() != tt.name {
				t.Errorf("read back %v", m)
			}
		})
	}
}

// Somebody puts something at DIR while the dump runs: it must not be lost.
func TestCommitReplacesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "img")
	w := create(t, dir)
	check(t, os.Mkdir(dir, 0o755))
	check(t, os.WriteFile(filepath.Join(dir, "precious"), nil, 0o600))
	if err := w.Commit(&Manifest{}); err == nil {
		t.Fatal("Commit succeeded")
	}
	check(t, w.Abort())
	if got := names(t, dir); !cmp.Equal(got, []string{"precious"}) {
		t.Errorf("left: %v", got)
	}
	if exists(dir + ".partial") {
		t.Error("DIR.partial is left")
	}
}

// An image that is not to be after all leaves nothing.
func TestCommitIsTakenBack(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "img")
	w := create(t, dir)
	no := errors.New("no")
	err := w.CommitIf(&Manifest{}, func() error {
		if _, err := os.Stat(filepath.Join(dir, "ckpt.img")); err != nil {
			t.Error(err)
		}
		return no
	})
	if !errors.Is(err, no) {
		t.Errorf("error %v", err)
	}
	check(t, w.Abort())
	if left := names(t, parent); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestStalePartial(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "img")
	held := create(t, dir)
	if _, err := Create(dir, Options{}); err == nil || !strings.Contains(err.Error(), "another dump is writing") {
		t.Fatalf("two dumps at one place: %v", err)
	}
	// A dump that is killed leaves its directory, and its lock goes.
	check(t, held.Add(PSTree, "", pstreeEntry(2)))
	_, err := held.Pages("7")
	check(t, err)
	check(t, held.to.(*folder).dir.Close())
	w := create(t, dir)
	check(t, w.Add(PSTree, "", pstreeEntry(3)))
	check(t, w.Commit(&Manifest{}))
	if got, want := names(t, dir), []string{"ckpt.img", "pstree.img"}; !cmp.Equal(got, want) {
		t.Errorf("files %v, want %v", got, want)
	}
	held.done = true
}

func TestForeignPartialIsKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "img")
	check(t, os.Mkdir(dir+".partial", 0o755))
	check(t, os.WriteFile(filepath.Join(dir+".partial", "thesis.txt"), nil, 0o600))
	_, err := Create(dir, Options{})
	if err == nil || !strings.Contains(err.Error(), "thesis.txt") || len(failure.Hints(err)) == 0 {
		t.Fatalf("error %v", err)
	}
	if !exists(filepath.Join(dir+".partial", "thesis.txt")) {
		t.Error("the foreign file is gone")
	}
}

func TestNamesStayInside(t *testing.T) {
	w := create(t, filepath.Join(t.TempDir(), "img"))
	for _, id := range []string{"../x", "a/b", "x\x00"} {
		if err := w.Add(Core, id, pstreeEntry(1)); err == nil {
			t.Errorf("Add with id %q succeeded", id)
		}
		if _, err := w.File(id); err == nil {
			t.Errorf("File(%q) succeeded", id)
		}
		if _, err := w.Pages(id); err == nil {
			t.Errorf("Pages(%q) succeeded", id)
		}
	}
}

func TestFullDiskNamesTheFile(t *testing.T) {
	if !inside(t) {
		return
	}
	mnt := tmpfs(t, "size=64k")
	dir := filepath.Join(mnt, "img")
	w := create(t, dir)
	err := w.Add(PipesData, "", pipeEntry(1, flushAt), make([]byte, flushAt))
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "pipes-data.img") || len(failure.Hints(err)) == 0 {
		t.Errorf("error %v, hints %q", err, failure.Hints(err))
	}
	p, err := w.Pages("1")
	check(t, err)
	err = p.Write(PageSize, make([]byte, flushAt))
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "pages-1.img") || len(failure.Hints(err)) == 0 {
		t.Errorf("error %v, hints %q", err, failure.Hints(err))
	}
	check(t, w.Abort())
	if left := names(t, mnt); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestMountPointIsRefusedEarly(t *testing.T) {
	if !inside(t) {
		return
	}
	mnt := tmpfs(t, "size=64k")
	if _, err := Create(mnt, Options{}); err == nil || !strings.Contains(err.Error(), "mount point") {
		t.Errorf("error %v", err)
	}
}

func tmpfs(t *testing.T, options string) string {
	t.Helper()
	mnt := t.TempDir()
	check(t, unix.Mount("ckpt-test", mnt, "tmpfs", 0, options))
	t.Cleanup(func() { check(t, unix.Unmount(mnt, unix.MNT_DETACH)) })
	return mnt
}

// inside runs the calling test again in a user and mount namespace of its own,
// where it is root, and tells whether this is that run.
func inside(t *testing.T) bool {
	t.Helper()
	const env = "CKPT_TEST_INSIDE"
	if os.Getenv(env) == t.Name() {
		return true
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), env+"="+t.Name())
	id := func(host int) []syscall.SysProcIDMap { return []syscall.SysProcIDMap{{HostID: host, Size: 1}} }
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		UidMappings: id(os.Geteuid()), GidMappings: id(os.Getegid()),
		Pdeathsig: unix.SIGKILL,
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("in a user namespace: %v\n%s", err, out)
	}
	return false
}
