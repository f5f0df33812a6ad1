package foreign

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ckpt/failure"
	"ckpt/image"
)

// try translates what is in dir. What is wrong with it is an error, of an image
// that is damaged or not carried, or it is nothing that the translation looks at.
func try(t *testing.T, dir string) error {
	t.Helper()
	r, err := image.Open(dir)
	if err == nil {
		defer r.Close()
		err = Translate(r)
	}
	for _, e := range failure.All(err) {
		if !errors.Is(e, failure.ErrDamaged) && !errors.Is(e, failure.ErrIncompatible) && !errors.Is(e, failure.ErrUnsupported) {
			t.Errorf("%v is no error of an image", e)
		}
	}
	return err
}

// Each file is cut off, flipped, and taken away.
func TestHostile(t *testing.T) {
	for _, name := range []string{tree, pid1} {
		dir := unpacked(t, name)
		all, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range all {
			if strings.HasPrefix(f.Name(), "pages-") {
				continue // contents, without a form
			}
			path := filepath.Join(dir, f.Name())
			good, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			write := func(b []byte) {
				if err := os.WriteFile(path, b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			step := max(1, len(good)/10)
			for at := 0; at < len(good); at += step {
				write(good[:at])
				if err := try(t, dir); err == nil && at < 8 {
					t.Errorf("%s, %s: the header is cut off, and nobody has seen it", name, f.Name())
				}
				bad := append([]byte(nil), good...)
				bad[at] ^= 0x55
				write(bad)
				_ = try(t, dir)
			}
			write(append(append([]byte(nil), good...), 1))
			if try(t, dir) == nil && !strings.HasPrefix(f.Name(), "ghost-file") {
				t.Errorf("%s, %s: there is a byte too many, and nobody has seen it", name, f.Name())
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			err = try(t, dir)
			needed := []string{"inventory", "pstree", "core-", "ids-", "mm-", "pagemap-10", "pagemap-1.img", "files.img"}
			for _, p := range needed {
				if strings.HasPrefix(f.Name(), p) && err == nil {
					t.Errorf("%s: nobody misses %s", name, f.Name())
				}
			}
			write(good)
		}
		if err := try(t, dir); err != nil {
			t.Errorf("%s: the whole image: %v", name, err)
		}
	}
}

// FuzzTranslate puts any bytes in the place of a file.
func FuzzTranslate(f *testing.F) {
	dir := unpacked(f, tree)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(d.Name(), "pages-") {
			return err
		}
		b, err := os.ReadFile(path)
		if err == nil && len(b) < 4096 {
			f.Add(d.Name(), b)
		}
		return err
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		if filepath.Base(name) != name || !strings.HasSuffix(name, ".img") || len(name) > 100 || strings.ContainsRune(name, 0) {
			return
		}
		path := filepath.Join(dir, name)
		was, err := os.ReadFile(path)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			return
		}
		_ = try(t, dir)
		if err != nil {
			err = os.Remove(path)
		} else {
			err = os.WriteFile(path, was, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	})
}
