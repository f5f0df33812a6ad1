package container

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"ckpt/failure"
)

func itoa(n int) string { return strconv.Itoa(n) }

func TestLookPath(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	write := func(path string, mode os.FileMode) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	write("bin/run", 0o755)
	write("first/run", 0o644) // passed over
	write("first/data", 0o644)
	write("here", 0o755)
	path := "PATH=" + dir + "/none:" + dir + "/first:" + dir + "/bin"
	for _, c := range []struct {
		name, env, want, err, hint string
	}{
		{"run", path, dir + "/bin/run", "", ""},
		{"bin/run", path, "bin/run", "", ""},
		{"run", "PATH=:" + dir, "", "run: not found in PATH", "give its path, or install it"},
		{"here", "PATH=", "", "here: not found in PATH", "there is one in this directory: ./here"},
		{"here", "PATH=:/bin", "./here", "", ""},
		{"data", path, "", "data: " + dir + "/first/data: not executable: permission denied", ""},
		{"./first/data", path, "", "./first/data: not executable: permission denied", "make it executable: chmod +x ./first/data"},
		{"./bin", path, "", "./bin: is a directory", ""},
		{"./nothing", path, "", "./nothing: no such file or directory", "relative paths start at the working directory"},
		{"/no/such", path, "", "/no/such: no such file or directory", ""},
		{"", path, "", "the command is empty", ""},
	} {
		got, err := LookPath(c.name, []string{"A=b", c.env})
		text, hint := "", ""
		if err != nil {
			text = err.Error()
			if h := failure.Hints(err); len(h) > 0 {
				hint = h[0]
			}
		}
		if got != c.want || text != c.err || hint != c.hint {
			t.Errorf("%q in %s: %q, %q, %q", c.name, c.env, got, text, hint)
		}
	}
}
