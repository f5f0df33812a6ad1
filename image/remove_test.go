package image

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRemove(t *testing.T) {
	tmp := t.TempDir()
	dir := filepath.Join(tmp, "a")
	w := create(t, dir)
	write(t, w, "2", "a@10 b@11")
	write(t, w, "3", "a@10 b@11") // a level
	check(t, w.Commit(&Manifest{}))
	// One that was killed when it had the name, and one before it.
	check(t, os.Mkdir(dir+partial, 0o700))
	check(t, os.WriteFile(filepath.Join(dir+partial, "pages-1.img"), []byte("x"), 0o600))
	check(t, Remove(dir))
	if left := strings.Join(names(t, tmp), " "); left != "" {
		t.Errorf("left: %s", left)
	}
	if err := Remove(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of none: %v", err)
	}
}

// A directory with anything else in it is somebody's.
func TestRemoveNothingElse(t *testing.T) {
	tmp := t.TempDir()
	dir := filepath.Join(tmp, "a")
	after(t, "", dir, "a@10")
	check(t, os.WriteFile(filepath.Join(dir, "notes"), nil, 0o600))
	if err := Remove(dir); err == nil || !strings.Contains(err.Error(), "it holds notes, which is no file of an image") {
		t.Errorf("error %v", err)
	}
	want(t, openWithout(t, dir, "notes"), "2", "a@10")
}

// openWithout opens an image beside whose files another stood.
func openWithout(t *testing.T, dir, name string) *Reader {
	t.Helper()
	check(t, os.Remove(filepath.Join(dir, name)))
	return open(t, dir)
}

func TestClear(t *testing.T) {
	tmp := t.TempDir()
	dir := filepath.Join(tmp, "a")
	check(t, Clear(dir))
	w := create(t, dir)
	check(t, Clear(dir)) // is being written
	if left := strings.Join(names(t, tmp), " "); left != "a.partial" {
		t.Errorf("there is %s", left)
	}
	after(t, "", filepath.Join(tmp, "b"), "a@10")
	check(t, w.Abort())
	check(t, os.Rename(filepath.Join(tmp, "b"), dir+partial)) // as a removal that was killed leaves it
	check(t, Clear(dir))
	if left := strings.Join(names(t, tmp), " "); left != "" {
		t.Errorf("left: %s", left)
	}
}
