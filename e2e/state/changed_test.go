package state

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ckpt/e2e/harness"
)

// changedFiles is a container whose files have changed since it was dumped.
type changedFiles struct {
	e     *harness.Env
	image string
}

func dumpHolder(t *testing.T, user string) *changedFiles {
	e := harness.New(t, user)
	for _, name := range []string{"read", "written", "log", "mapped", "gone", "other", "kept"} {
		e.WriteFile(name, strings.Repeat(name[:1], 4096))
	}
	e.Mkdir("directory")
	c := e.Start("holder", nil, harness.Program(t, "holder.c"), "rread", "wwritten", "alog", "mmapped", "rgone", "wother", "rkept", "ddirectory")
	c.Says("ready")
	f := &changedFiles{e, e.Join("image")}
	c.Dump(f.image)
	return f
}

func (f *changedFiles) must(err error) {
	f.e.T.Helper()
	if err != nil {
		f.e.T.Fatal(err)
	}
}

// refused restores, which must fail with these lines, in any order, and leave
// nothing; the path of the test's directory is left out of them.
func (f *changedFiles) refused(code int, want []string, flags ...string) {
	f.e.T.Helper()
	r := f.e.Try(append([]string{"restore", f.image}, flags...)...)
	if r.Code != code {
		f.e.T.Errorf("exit code %d, want %d", r.Code, code)
	}
	got := strings.Split(strings.TrimSpace(strings.ReplaceAll(r.Err, f.e.Dir+"/", "")), "\n")
	got = slices.DeleteFunc(got, func(l string) bool { return !strings.HasPrefix(l, "ckpt: ") }) // the log
	if d := cmp.Diff(set(want), set(got)); d != "" {
		f.e.T.Errorf("standard error (-want +got):\n%s", d)
	}
}

func set(lines []string) map[string]bool {
	m := map[string]bool{}
	for _, l := range lines {
		m[l] = true
	}
	return m
}

// TestChanged: each file that is not what it was is named, with what it was
// and what it is, and what can be done; all of them at once.
func TestChanged(t *testing.T) {
	for _, user := range harness.Users() {
		t.Run("as "+user, func(t *testing.T) {
			f := dumpHolder(t, user)
			f.e.WriteFile("read", strings.Repeat("r", 8192))
			f.e.WriteFile("written", "short")
			f.e.WriteFile("log", "what others wrote to it meanwhile")
			f.e.WriteFile("mapped", strings.Repeat("m", 5000))
			f.must(os.Rename(f.e.Join("gone"), f.e.Join("kept-aside")))
			f.must(errors.Join(os.Remove(f.e.Join("other")), os.Mkdir(f.e.Join("other"), 0o755)))
			f.must(errors.Join(os.Remove(f.e.Join("directory"))))
			const pid = "ckpt: error: restore pid 2 (holder): "
			want := []string{
				pid + "read changed since the dump: 4096 bytes then, 8192 now",
				"ckpt: hint: put the old file back, or accept the new one with --allow-changed read",
				pid + "written changed since the dump: 4096 bytes then, 5 now",
				"ckpt: hint: put the old file back, or accept the new one with --allow-changed written",
				pid + "mapped changed since the dump: 4096 bytes then, 5000 now",
				"ckpt: hint: put the old file back, or accept the new one with --allow-changed mapped",
				pid + "gone is gone since the dump: it was a file of 4096 bytes",
				"ckpt: hint: put it back",
				pid + "other was a file when it was saved, and is a directory now",
				"ckpt: hint: put the old file back",
				pid + "directory is gone since the dump: it was a directory",
			}
			f.refused(1, want)
			f.must(errors.Join(os.Remove(f.e.Join("other")), os.Rename(f.e.Join("kept-aside"), f.e.Join("gone"))))
			f.e.WriteFile("other", strings.Repeat("o", 4096))
			f.e.Mkdir("directory")
			f.refused(1, []string{want[2], want[3]}, "--allow-changed", f.e.Join("read"), "--allow-changed", f.e.Join("mapped"))
			f.e.WriteFile("written", strings.Repeat("w", 4096))
			c := f.e.Restore(f.image, "", "--allow-changed", f.e.Join("read"), "--allow-changed", f.e.Join("mapped"))
			c.Name = "holder"
			c.Kill("USR1")
			for _, line := range []string{"read 8192", "log 33", "gone 4096", "kept 4096", "held"} {
				c.Says(line)
			}
		})
	}
}
