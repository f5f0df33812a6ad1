package kindtest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"ckpt/image"
)

// Dump saves files and checks the promises every kind makes: the same again
// gives the same bytes, the files are as they were, no descriptor is left over.
func (b *Box) Dump(files ...*os.File) *Saved {
	t := b.t
	t.Helper()
	before, open := b.shown(files), descriptors(t)
	first, err := b.Try(files...)
	if err != nil {
		t.Fatalf("dump: %v", err)
	}
	second, err := b.Try(files...)
	if err != nil {
		t.Fatalf("second dump: %v", err)
	}
	if d := cmp.Diff(open, descriptors(t)); d != "" {
		t.Errorf("dump leaked descriptors (-before +after):\n%s", d)
	}
	if d := cmp.Diff(before, b.shown(files)); d != "" {
		t.Errorf("dump changed what /proc shows of the files (-before +after):\n%s", d)
	}
	if d := cmp.Diff(first.Entries, second.Entries, protocmp.Transform()); d != "" {
		t.Errorf("two dumps of the same files differ:\n%s", d)
	}
	if d := cmp.Diff(contents(t, first.Dir), contents(t, second.Dir)); d != "" {
		t.Errorf("the images of two dumps of the same files differ:\n%s", d)
	}
	return first
}

// shown is what fdinfo and the link of each file say.
func (b *Box) shown(files []*os.File) (out []string) {
	for _, f := range files {
		link, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
		if err != nil {
			b.t.Fatal(err)
		}
		info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", f.Fd()))
		if err != nil {
			b.t.Fatal(err)
		}
		out = append(out, link+"\n"+string(info))
	}
	return out
}

// descriptors lists the test process's open descriptors and what they are.
func descriptors(t testing.TB) (out []string) {
	t.Helper()
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		link, err := os.Readlink("/proc/self/fd/" + n)
		if err == nil && n != fmt.Sprint(dir.Fd()) {
			out = append(out, n+" "+link)
		}
	}
	slices.Sort(out)
	return out
}

// contents are the bytes of every file of an image but the manifest.
func contents(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if strings.HasPrefix(n.Name(), "ckpt.") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, n.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[n.Name()] = string(b)
	}
	return out
}

// Open opens the image for a look at what was written.
func (s *Saved) Open(t testing.TB) *image.Reader {
	t.Helper()
	in, err := image.Open(s.Dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close() })
	return in
}
