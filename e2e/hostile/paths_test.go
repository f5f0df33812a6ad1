package hostile

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/e2e/harness"
	"ckpt/e2e/imagetest"
)

// treasure is a directory of files of every sort that an image must not harm.
func treasure(t *testing.T, e *harness.Env) (paths []string) {
	t.Helper()
	dir := e.Mkdir("treasure")
	e.WriteFile("treasure/file", "treasure")
	e.WriteFile("treasure/empty", "")
	e.Mkdir("treasure/directory")
	for _, err := range []error{
		os.Symlink("file", dir+"/link"), os.Symlink("nowhere", dir+"/dangling"), unix.Mkfifo(dir+"/fifo", 0o600),
		os.WriteFile(dir+"/secret", []byte("secret"), 0o400), os.Link(dir+"/file", dir+"/second"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"file", "empty", "directory", "link", "dangling", "fifo", "secret", "directory/new", "file/new"} {
		paths = append(paths, filepath.Join(dir, name))
	}
	return append(paths, dir+"/directory/../../treasure/file", e.Dir+"/../../../../../.."+dir+"/secret")
}

// worth is what each of the treasures is: none may be missing, or another.
func worth(t *testing.T, e *harness.Env) string {
	t.Helper()
	var b strings.Builder
	dir := e.Join("treasure")
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type() == fs.ModeSocket { // a program's own, bound there
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		text := ""
		if d.Type().IsRegular() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text = string(content)
		}
		changed := st.Mtim.Nano()
		if d.IsDir() { // whatever was made in it for an instant
			changed = 0
		}
		fmt.Fprintf(&b, "%s: inode %d, mode %#o, owner %d:%d, links %d, changed %d: %q\n", path, st.Ino, st.Mode, st.Uid, st.Gid, st.Nlink, changed, text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestPaths: wherever the paths in an image lead, files that are there are neither
// changed nor removed, by root and by an ordinary user: whoever restores accepts
// that they are not what they were.
func TestPaths(t *testing.T) {
	for _, user := range harness.Users() {
		for _, s := range subjects {
			if !slices.Contains([]string{"sockets", "names", "mqueue", "watching"}, s.name) {
				continue
			}
			t.Run(s.name+" as "+user, func(t *testing.T) {
				e := harness.New(t, user)
				whole := saved(t, e, "subject", s.command, s.says)
				paths := treasure(t, e)
				before := worth(t, e)
				e.Own("mutant")
				many := number(t, "CKPT_PATHS", 2)
				for k, path := range paths {
					all := whole.Redirected(path)
					if many > 0 { // others of each path
						step := max(1, len(all)/many)
						var some []imagetest.Mutation
						for n := k % step; n < len(all); n += step {
							some = append(some, all[n])
						}
						all = some
					}
					for _, m := range all {
						mutant(t, e, whole, m, func(t *testing.T, e *harness.Env, name, dir string) int {
							r := attempt(t, e, name, dir)
							if strings.Contains(r.Err, "--allow-changed") && path == filepath.Clean(path) {
								r = attempt(t, e, name, dir, "--allow-changed", path)
							}
							return r.Code
						})
						if now := worth(t, e); now != before {
							t.Fatalf("%s: there was\n%s\nthere is\n%s", m.Name, before, now)
						}
						for _, s := range glob(t, e.Join("treasure", "directory", "*")) {
							os.Remove(s)
						}
					}
				}
			})
		}
	}
}

// TestOpenedAnew: files are opened as they were, and not made or emptied as the flags
// of open(2) that an image may name would have it.
func TestOpenedAnew(t *testing.T) {
	e := harness.New(t, "")
	whole := saved(t, e, "files", []string{"files.c"}, "ready")
	e.Own("mutant")
	contents := func() string {
		var b strings.Builder
		paths, err := filepath.Glob(e.Join("files", "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range paths {
			text, _ := os.ReadFile(p)
			fmt.Fprintf(&b, "%s %q\n", p, text)
		}
		return b.String()
	}
	before := contents()
	n := 0
	for k, entry := range whole.Files["files.img"].Entries {
		reg := entry.Message.(*fdinfo.FileEntry).GetReg()
		if reg == nil {
			continue
		}
		n++
		m := imagetest.Mutation{Name: reg.GetName() + " emptied", Apply: func(i *imagetest.Image) {
			i.Files["files.img"].Entries[k].Message.(*fdinfo.FileEntry).Reg.Flags = proto.Uint32(unix.O_RDWR | unix.O_CREAT | unix.O_TRUNC)
		}}
		mutant(t, e, whole, m, restored)
		if now := contents(); now != before {
			t.Fatalf("%s: there was\n%s\nthere is\n%s", m.Name, before, now)
		}
	}
	if n == 0 {
		t.Error("there is no file")
	}
}
