package fault

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ckpt/e2e/harness"
)

// TestDamaged: whatever file of an image is missing, cut or changed, the
// restore says which, with exit code 4, and starts nothing.
func TestDamaged(t *testing.T) {
	e := harness.New(t, "")
	c := e.Start("family", nil, harness.Program(t, "family.c"), e.Mkdir("family"))
	j := new(harness.Journal)
	counts(c, j, "main")
	image := e.Join("image")
	c.Dump(image)
	read(t, c, j)
	c.Remove()
	e.Own("damaged")
	files, err := os.ReadDir(image)
	if err != nil {
		t.Fatal(err)
	}
	damages := []struct {
		name string
		of   func(b []byte) []byte // nil: the file is missing
	}{
		{"missing", nil},
		{"cut", func(b []byte) []byte { return b[:len(b)/2] }},
		{"longer", func(b []byte) []byte { return append(b, 0) }},
		{"changed", func(b []byte) []byte {
			b[len(b)/2] ^= 1
			return b
		}},
	}
	for i, f := range files {
		// Every kind of file in every way, the many files of a kind in turn.
		for k, d := range damages {
			if i > 12 && i%len(damages) != k {
				continue
			}
			path := filepath.Join(image, f.Name())
			whole, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if d.of == nil {
				remove(t, path)
			} else if b := d.of(append([]byte(nil), whole...)); string(b) == string(whole) {
				continue // an empty file, cut
			} else if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			for _, args := range [][]string{{"restore", image, "--name", "damaged"}, {"verify", image}} {
				r := e.Try(args...)
				// ckpt.img says that the image is whole: without it, no
				// other file can be blamed.
				if r.Code != 4 || !strings.Contains(r.Out+r.Err, f.Name()) && f.Name() != "ckpt.img" {
					t.Errorf("%s is %s: it should be named, with exit code 4: %v", f.Name(), d.name, r)
				}
			}
			if p := e.Processes(); len(p) > 0 {
				t.Errorf("%s is %s: processes left: %v", f.Name(), d.name, p)
				e.Try("rm", "-f", "damaged")
			}
			if err := os.WriteFile(path, whole, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	e.Run("verify", image)
	counts(e.Restore(image, "whole"), j, "main", "sysv")
}

// TestMissing: an image that is not there, an empty directory, and a file.
func TestMissing(t *testing.T) {
	e := harness.New(t, "")
	e.Mkdir("empty")
	e.WriteFile("file", "x")
	for name, code := range map[string]int{"nowhere": 1, "empty": 4, "file": 4} {
		r := e.Try("restore", e.Join(name))
		if r.Code != code || !strings.Contains(r.Err, name) {
			t.Errorf("restore of %s: %v", name, r)
		}
	}
	if p := e.Processes(); len(p) > 0 {
		t.Errorf("processes left: %v", p)
	}
}
