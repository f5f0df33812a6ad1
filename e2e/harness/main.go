package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Path is the PATH of everything that tests start: Debian's own programs.
// Version managers put shims before them that exist for their user alone.
const Path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// built is where ckpt and the programs of e2e/program are, readable by every
// user; set once, by Main.
var built string

// Main is the TestMain of a package that uses this one.
func Main(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "ckpt-built-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = os.Chmod(dir, 0o755)
	}
	if err == nil {
		err = buildCkpt(filepath.Join(dir, "ckpt"))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	built = dir
	return m.Run()
}

// buildCkpt copies $CKPT_BINARY, or builds what is in the checkout.
func buildCkpt(to string) error {
	if bin := os.Getenv("CKPT_BINARY"); bin != "" {
		b, err := os.ReadFile(bin)
		if err != nil {
			return err
		}
		return os.WriteFile(to, b, 0o755)
	}
	return command("", []string{"CGO_ENABLED=0"}, "go", "build", "-o", to, "ckpt/cmd/ckpt")
}

func command(dir string, env []string, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// Ckpt is the path of the ckpt under test.
func Ckpt() string { return filepath.Join(built, "ckpt") }

// programs remembers what Program has built in this run.
var programs sync.Map

// Program gives the path of a program of e2e/program, built if it is source:
// "x.c" a C program ("folder/x.c" too), "X.java" the directory of its classes,
// "x" the Go package of that name, anything else a script.
func Program(t testing.TB, source string) string {
	t.Helper()
	build, _ := programs.LoadOrStore(source, sync.OnceValues(func() (string, error) { return buildProgram(source) }))
	path, err := build.(func() (string, error))()
	if err != nil {
		t.Fatalf("build %s: %v", source, err)
	}
	return path
}

func buildProgram(source string) (string, error) {
	from, err := filepath.Abs(filepath.Join("..", "program", source))
	if err != nil {
		return "", err
	}
	name := strings.TrimSuffix(source, filepath.Ext(source))
	to := filepath.Join(built, name)
	switch filepath.Ext(source) {
	case ".c":
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return "", err
		}
		return to, command("", nil, "gcc", "-O1", "-Wall", "-Werror", "-pthread", "-o", to, from)
	case ".java":
		return to, command("", nil, "javac", "-d", to, from)
	case "":
		// Where there is no Go, it may lie beside $CKPT_BINARY.
		if b, err := os.ReadFile(filepath.Join(filepath.Dir(os.Getenv("CKPT_BINARY")), name)); err == nil {
			return to, os.WriteFile(to, b, 0o755)
		}
		return to, command("", []string{"CGO_ENABLED=0"}, "go", "build", "-o", to, "ckpt/e2e/program/"+source)
	}
	to = filepath.Join(built, source)
	b, err := os.ReadFile(from)
	if err != nil {
		return "", err
	}
	return to, os.WriteFile(to, b, 0o755)
}

// Tool gives the full path of an installed program; a missing one fails the
// test, which is meant to run it.
func Tool(t testing.TB, name string, dirs ...string) string {
	t.Helper()
	for _, d := range append(dirs, filepath.SplitList(Path)...) {
		found, err := filepath.Glob(filepath.Join(d, name))
		if err != nil {
			t.Fatal(err)
		}
		if len(found) > 0 {
			return found[len(found)-1]
		}
	}
	t.Fatalf("%s is not installed (./ci/packages.sh installs what the tests run)", name)
	return ""
}
