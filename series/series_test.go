package series

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ckpt/image"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func there(t *testing.T, dir string) string {
	t.Helper()
	ents, err := os.ReadDir(dir)
	check(t, err)
	var out []string
	for _, e := range ents {
		out = append(out, e.Name())
	}
	return strings.Join(out, " ")
}

func TestSeries(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "saves")
	s, err := Open(dir)
	check(t, err)
	for n := range 4 {
		at, after, err := s.Next(2, time.Date(2026, 1, 17, 8, n, 0, 0, time.UTC))
		check(t, err)
		o := image.Options{}
		if after != "" {
			o.Parent, err = image.Open(after)
			check(t, err)
		}
		w, err := image.Create(at, o)
		check(t, err)
		check(t, w.Commit(&image.Manifest{}))
		check(t, s.Saved(at, 2))
	}
	if got := there(t, dir); got != "000003-20260117T080200Z 000004-20260117T080300Z-after-000003 latest" {
		t.Error(got)
	}
	if to, err := os.Readlink(filepath.Join(dir, Latest)); err != nil || to != "000004-20260117T080300Z-after-000003" {
		t.Errorf("latest is %s: %v", to, err)
	}
	check(t, s.Close())
	// What a dump and a removal have left that were killed; and what is not ours.
	for _, name := range []string{"000005-20260117T080400Z.partial", "other.partial"} {
		check(t, os.Mkdir(filepath.Join(dir, name), 0o700))
	}
	s, err = Open(dir)
	check(t, err)
	defer s.Close()
	if got := there(t, dir); got != "000003-20260117T080200Z 000004-20260117T080300Z-after-000003 latest other.partial" {
		t.Error(got)
	}
}

// What cannot be removed, or replaced, is told, and keeps nothing else from it.
func TestSavedWithTrouble(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir)
	check(t, err)
	defer s.Close()
	check(t, os.MkdirAll(filepath.Join(dir, Latest, "x"), 0o700))
	save := func(minute int) (string, error) {
		t.Helper()
		at, _, err := s.Next(1, time.Date(2026, 1, 17, 8, minute, 0, 0, time.UTC))
		check(t, err)
		w, err := image.Create(at, image.Options{})
		check(t, err)
		check(t, w.Commit(&image.Manifest{}))
		return at, s.Saved(at, 1)
	}
	first, err := save(1)
	if err == nil || !strings.Contains(err.Error(), "have "+filepath.Join(dir, Latest)+" lead to the newest image: ") {
		t.Errorf("error %v", err)
	}
	check(t, os.WriteFile(filepath.Join(first, "notes"), nil, 0o600))
	if _, err = save(2); err == nil || !strings.Contains(err.Error(), first+": it holds notes, which is no file of an image") {
		t.Errorf("error %v", err)
	}
	check(t, os.Remove(filepath.Join(first, "notes")))
	if _, err = save(3); err == nil {
		t.Error("no error")
	}
	if got := there(t, dir); got != ".latest 000003-20260117T080300Z latest" {
		t.Error(got)
	}
}

func TestOpen(t *testing.T) {
	tmp := t.TempDir()
	dir := filepath.Join(tmp, "saves")
	s, err := Open(dir)
	check(t, err)
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("%v: %v", st.Mode(), err)
	}
	// The next one waits for a holder that is about to end.
	ended := time.AfterFunc(50*time.Millisecond, func() { s.Close() })
	defer ended.Stop()
	again, err := Open(dir)
	check(t, err)
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "another container is saved into "+dir) {
		t.Errorf("taken: %v", err)
	}
	check(t, again.Undo())
	if there(t, tmp) != "saves" {
		t.Error("what was there is gone")
	}
	fresh, err := Open(filepath.Join(tmp, "fresh"))
	check(t, err)
	check(t, fresh.Undo())
	if there(t, tmp) != "saves" {
		t.Error("what was made is left")
	}
	check(t, os.WriteFile(filepath.Join(tmp, "file"), nil, 0o600))
	for path, want := range map[string]string{"a/b": "there is no directory", "file": "not a directory"} {
		if _, err := Open(filepath.Join(tmp, path)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
