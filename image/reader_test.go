package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/inventory"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/pipe-data"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/pstree"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/utsns"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"ckpt/failure"
)

func TestRoundTrip(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "img")
	sample(t, dir)
	r := open(t, dir)
	check(t, r.Verify(t.Context()))
	var got []*pstree.PstreeEntry
	check(t, Each(r, PSTree, "", func(m *pstree.PstreeEntry, _ func(int) ([]byte, error)) error {
		got = append(got, m)
		return nil
	}))
	if d := cmp.Diff(got, []*pstree.PstreeEntry{pstreeEntry(2), pstreeEntry(3)}, protocmp.Transform()); d != "" {
		t.Error(d)
	}
	var data []string
	check(t, Each(r, PipesData, "", func(m *pipe_data.PipeDataEntry, read func(int) ([]byte, error)) error {
		b, err := read(int(m.GetBytes()))
		data = append(data, string(b))
		return err
	}))
	if want := []string{"hello", "!"}; !cmp.Equal(data, want) {
		t.Errorf("data %q, want %q", data, want)
	}
	u, err := One[*utsns.UtsnsEntry](r, UTSNS, UTSNS.ID(NamespaceID))
	check(t, err)
	if u.GetNodename() != "box" {
		t.Errorf("nodename %q", u.GetNodename())
	}
	check(t, Each(r, Core, "99", func(*pstree.PstreeEntry, func(int) ([]byte, error)) error {
		return errors.New("an entry of a file that does not exist")
	}))
	if _, err := One[*utsns.UtsnsEntry](r, UTSNS, "9"); !errors.Is(err, failure.ErrDamaged) {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := One[*pstree.PstreeEntry](r, PSTree, ""); !errors.Is(err, failure.ErrDamaged) {
		t.Errorf("two entries where one belongs: %v", err)
	}
}

func TestBigEntriesFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "img")
	w := create(t, dir)
	want := make([]byte, 3*chunk/2)
	for i := range want {
		want[i] = byte(i * i)
	}
	for id := range uint32(3) {
		check(t, w.Add(PipesData, "", pipeEntry(id, len(want)), want))
	}
	check(t, w.Commit(&Manifest{}))
	n := 0
	check(t, Each(open(t, dir), PipesData, "", func(m *pipe_data.PipeDataEntry, read func(int) ([]byte, error)) error {
		b, err := read(int(m.GetBytes()))
		if string(b) != string(want) {
			t.Errorf("entry %d: data differ", n)
		}
		n++
		return err
	}))
	if n != 3 {
		t.Errorf("%d entries, want 3", n)
	}
}

func TestEveryFlippedByteIsFound(t *testing.T) {
	top := t.TempDir()
	sample(t, filepath.Join(top, "img"))
	for _, name := range []string{"ckpt.img", "pstree.img", "pipes-data.img", "pagemap-2.img", "inventory.img"} {
		fi, err := os.Stat(filepath.Join(top, "img", name))
		check(t, err)
		for at := range fi.Size() {
			path := filepath.Join(top, "img", name)
			flip(t, path, at)
			if err := whole(t, filepath.Join(top, "img")); !errors.Is(err, failure.ErrDamaged) {
				t.Errorf("%s, byte %d: %v", name, at, err)
			}
			flip(t, path, at)
		}
	}
	check(t, whole(t, filepath.Join(top, "img")))
}

func whole(t *testing.T, dir string) error {
	r, err := Open(dir)
	if err != nil {
		return err
	}
	defer r.Close()
	return r.Verify(t.Context())
}

func TestDamages(t *testing.T) {
	for _, tt := range []struct {
		name string
		hurt func(t *testing.T, dir string)
		want string // of Open or Verify
	}{
		{"pages", func(t *testing.T, dir string) { flip(t, filepath.Join(dir, "pages-1.img"), 5<<20) }, "pages-1.img is damaged at 4.2 MB (checksum)"},
		{"cut", func(t *testing.T, dir string) { check(t, os.Truncate(filepath.Join(dir, "pstree.img"), 20)) }, "pstree.img is cut off: 20 bytes of "},
		{"grown", func(t *testing.T, dir string) { check(t, os.Truncate(filepath.Join(dir, "pstree.img"), 2000)) }, "pstree.img has grown from "},
		{"missing", func(t *testing.T, dir string) { check(t, os.Remove(filepath.Join(dir, "pstree.img"))) }, "pstree.img is missing"},
		{"added", func(t *testing.T, dir string) {
			check(t, os.WriteFile(filepath.Join(dir, "core-5.img"), nil, 0o600))
		}, "core-5.img does not belong to the image"},
		{"fifo", func(t *testing.T, dir string) {
			check(t, os.Remove(filepath.Join(dir, "pstree.img")))
			check(t, unix.Mkfifo(filepath.Join(dir, "pstree.img"), 0o600))
		}, "pstree.img is not a regular file"},
		{"no manifest", func(t *testing.T, dir string) {
			check(t, os.Remove(filepath.Join(dir, "ckpt.img")))
			check(t, os.Remove(filepath.Join(dir, "inventory.img")))
		}, "it holds no image"},
		{"manifest missing", func(t *testing.T, dir string) {
			check(t, os.Remove(filepath.Join(dir, "ckpt.img")))
			check(t, os.WriteFile(filepath.Join(dir, "ckpt-files.img"), nil, 0o600))
		}, "ckpt.img is missing"},
		{"empty manifest", func(t *testing.T, dir string) { check(t, os.Truncate(filepath.Join(dir, "ckpt.img"), 0)) }, "ckpt.img is damaged at 0 bytes (it is cut off)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "img")
			sample(t, dir)
			tt.hurt(t, dir)
			err := whole(t, dir)
			if !errors.Is(err, failure.ErrDamaged) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestVerifyTellsEveryDamage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "img")
	sample(t, dir)
	flip(t, filepath.Join(dir, "pages-1.img"), 0)
	flip(t, filepath.Join(dir, "pages-1.img"), 5<<20)
	flip(t, filepath.Join(dir, "extra-1.img"), 0)
	var got []string
	for _, e := range failure.All(open(t, dir).Verify(t.Context())) {
		got = append(got, e.Error())
	}
	want := []string{
		"extra-1.img is damaged at 0 bytes (checksum)",
		"pages-1.img is damaged at 0 bytes (checksum)",
		"pages-1.img is damaged at 4.2 MB (checksum)",
	}
	if d := cmp.Diff(got, want); d != "" {
		t.Error(d)
	}
}

// What Verify was not asked about is still never handed out.
func TestDamagedEntriesAreNotHandedOut(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "img")
	sample(t, dir)
	flip(t, filepath.Join(dir, "pstree.img"), 20)
	err := Each(open(t, dir), PSTree, "", func(*pstree.PstreeEntry, func(int) ([]byte, error)) error {
		t.Error("an entry was handed out")
		return nil
	})
	if !errors.Is(err, failure.ErrDamaged) {
		t.Errorf("error %v", err)
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	top := t.TempDir()
	w := create(t, filepath.Join(top, "late"))
	check(t, w.Add(Inventory, "", &inventory.InventoryEntry{ImgVersion: proto.Uint32(2)}))
	for _, tt := range []struct{ dir, want string }{
		{filepath.Join(top, "late"), "late.partial is an unfinished image"},
		{filepath.Join(top, "late.partial"), "late.partial is an unfinished image"},
		{filepath.Join(top, "late.partial/"), "is an unfinished image"},
		{filepath.Join(top, "none"), "there is no such directory"},
		{"/dev/null", "it is neither a directory nor a file"},
	} {
		if _, err := Open(tt.dir); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Open(%s): %v, want %q", tt.dir, err, tt.want)
		}
	}
}

func TestNewerFormatIsRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "img")
	w := create(t, dir)
	check(t, w.putManifest(&Manifest{Format: Version + 1}))
	check(t, w.to.(*folder).place.finish())
	_, err := Open(dir)
	if !errors.Is(err, failure.ErrIncompatible) || len(failure.Hints(err)) == 0 {
		t.Errorf("error %v, hints %q", err, failure.Hints(err))
	}
	w.done = true
}

func TestImageOfCriu(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "img")
	sample(t, dir)
	check(t, os.Remove(filepath.Join(dir, "ckpt.img")))
	check(t, os.WriteFile(filepath.Join(dir, "dump.log"), nil, 0o600))
	r := open(t, dir)
	if r.Manifest() != nil {
		t.Error("there is a manifest")
	}
	inv, err := One[*inventory.InventoryEntry](r, Inventory, "")
	check(t, err)
	if inv.GetImgVersion() != 2 {
		t.Errorf("inventory %v", inv)
	}
	if err := r.Verify(t.Context()); !errors.Is(err, failure.ErrUnsupported) {
		t.Errorf("Verify: %v", err)
	}
}

func TestMissingRequiredFieldIsDamage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "img")
	w := create(t, dir)
	check(t, w.Add(UTSNS, "1", &Manifest{})) // an empty message: no nodename
	check(t, w.Commit(&Manifest{}))
	_, err := One[*utsns.UtsnsEntry](open(t, dir), UTSNS, "1")
	if !errors.Is(err, failure.ErrDamaged) || !strings.Contains(err.Error(), "nodename") {
		t.Errorf("error %v", err)
	}
}

// A restore reads on while its thread has long been in the container's mounts.
func TestReaderOutlivesItsMountNamespace(t *testing.T) {
	if !inside(t) {
		return
	}
	dir := filepath.Join(t.TempDir(), "img")
	sample(t, dir)
	r := open(t, dir)
	errs := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its namespace
		errs <- func() error {
			if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
				return err
			}
			if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
				return err
			}
			if err := unix.Mount("ckpt-test", filepath.Dir(dir), "tmpfs", 0, ""); err != nil {
				return err
			}
			if _, err := os.Stat(dir); err == nil {
				return fmt.Errorf("%s is still visible", dir)
			}
			_, err := PageRuns(r, "2")
			if err == nil {
				_, err = One[*utsns.UtsnsEntry](r, UTSNS, "1")
			}
			return err
		}()
	}()
	check(t, <-errs)
}
