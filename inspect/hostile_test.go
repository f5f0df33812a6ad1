package inspect_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ckpt/image"
	"ckpt/inspect/core"
	"ckpt/inspect/diff"
)

// nowhere is an Output that keeps nothing.
type nowhere struct{}

func (nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (nowhere) Skip(uint64) error           { return nil }

// TestHostile: whatever stands in an image, looking into it ends, with an error or
// not. Without the manifest no checksum finds what was changed.
func TestHostile(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("tar", "-C", dir, "-xzf", "../image/testdata/format-1.tar.gz", "format-1").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	good, bad := filepath.Join(dir, "format-1"), filepath.Join(dir, "bad")
	ents, err := os.ReadDir(good)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(bad, 0o700); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range ents {
		switch name := e.Name(); {
		case e.IsDir(), strings.HasPrefix(name, "ckpt"): // CRIU has none
		case !e.Type().IsRegular(): // nor a parent
		default:
			names = append(names, name)
			if err := os.Link(filepath.Join(good, name), filepath.Join(bad, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	a, err := image.Open(good)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for _, name := range names {
		whole, err := os.ReadFile(filepath.Join(good, name))
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(name, "pages-") {
			continue
		}
		for at := 8 + len(name)%7; at < len(whole); at += 7 {
			b := slices.Clone(whole)
			b[at] ^= byte(1 << (at % 8))
			put(t, filepath.Join(bad, name), b)
			lookInto(t, fmt.Sprintf("%s, byte %d", name, at), a, bad)
		}
		put(t, filepath.Join(bad, name), whole[:len(whole)/2])
		lookInto(t, name+", cut", a, bad)
		put(t, filepath.Join(bad, name), whole)
	}
}

func put(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func lookInto(t *testing.T, what string, good *image.Reader, dir string) {
	t.Helper()
	defer func() {
		if r := recover(); r != nil {
			t.Errorf("%s: %v", what, r)
		}
	}()
	r, err := image.Open(dir)
	if err != nil {
		return
	}
	defer r.Close()
	_, _ = image.Summarize(r)
	_, _ = diff.Compare(t.Context(), good, r)
	_, _ = core.Write(t.Context(), r, 2, nowhere{})
}
