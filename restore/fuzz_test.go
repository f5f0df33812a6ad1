package restore

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ckpt/e2e/imagetest"
	"ckpt/e2e/unpack"
)

// slow is much more than a plan takes.
const slow = 10 * time.Second

// FuzzPlan puts any bytes in the place of a file of a good image, makes its checksums
// right again, and has its restore planned: an image is refused or would be
// restored, and ckpt never breaks down.
func FuzzPlan(f *testing.F) {
	images := f.TempDir()
	unpack.File(f, "../image/testdata/format-1.tar.gz", images)
	manifests, err := filepath.Glob(filepath.Join(images, "*", imagetest.Manifest))
	if err != nil || len(manifests) == 0 {
		f.Fatalf("no image (%v)", err)
	}
	dir := filepath.Dir(manifests[0])
	ents, err := os.ReadDir(dir)
	if err != nil {
		f.Fatal(err)
	}
	var names []string
	for _, e := range ents {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err == nil && strings.HasSuffix(e.Name(), ".img") && len(b) < 1<<14 && e.Name() != imagetest.Manifest {
			names = append(names, e.Name())
			f.Add(e.Name(), b)
		}
	}
	manifest, err := os.ReadFile(manifests[0])
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		if !slices.Contains(names, name) {
			return
		}
		path := filepath.Join(dir, name)
		was, err := os.ReadFile(path)
		must(t, err)
		defer func() {
			must(t, os.WriteFile(path, was, 0o600))
			must(t, os.WriteFile(manifests[0], manifest, 0o600))
		}()
		must(t, os.WriteFile(path, b, 0o600))
		must(t, imagetest.Reseal(dir))
		defer time.AfterFunc(slow, func() { panic("it hangs") }).Stop()
		_, _, _ = Check(t.Context(), Options{Dir: dir})
	})
}
