package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ckpt/e2e/unpack"
	"ckpt/failure"
)

// streamed is an image as a stream.
func streamed(t testing.TB, o Options) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := CreateStream(&out, t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	for id, pages := range map[string]string{"2": "abcd", "3": "axcy"} {
		p, err := w.Pages(id)
		if err != nil {
			t.Fatal(err)
		}
		for i := range pages {
			if err := p.Write(uint64(0x10+i)*PageSize, bytes.Repeat([]byte{pages[i]}, PageSize)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Add(PSTree, "", pstreeEntry(2)); err != nil {
		t.Fatal(err)
	}
	if err := w.Add(PipesData, "", pipeEntry(1, flushAt), make([]byte, flushAt)); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(&Manifest{Name: "box"}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// opened opens a stream both ways, from a file and from a pipe.
func openedStream(t testing.TB, b []byte) (r [2]*Reader, errs [2]error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "stream")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	r[0], errs[0] = Open(path)
	r[1], errs[1] = Keys{}.ReceiveStream(bytes.NewReader(b), t.TempDir(), "standard input", nil)
	for _, r := range r {
		if r != nil {
			t.Cleanup(func() { _ = r.Close() })
		}
	}
	return r, errs
}

func TestStream(t *testing.T) {
	for _, o := range []Options{{}, {Compress: Default}} {
		b := streamed(t, o)
		readers, errs := openedStream(t, b)
		for i, r := range readers {
			check(t, errs[i])
			want(t, r, "2", "a@10 b@11 c@12 d@13")
			want(t, r, "3", "a@10 x@11 c@12 y@13")
			check(t, r.Verify(t.Context()))
			if r.Manifest().Name != "box" || !r.Has(PSTree, "") {
				t.Errorf("%v", r.Manifest())
			}
		}
		// Unpacked, it is the directory.
		dir := filepath.Join(t.TempDir(), "img")
		check(t, os.Mkdir(dir, 0o700))
		unpack.Archive(t, bytes.NewReader(b), dir)
		r := open(t, dir)
		want(t, r, "3", "a@10 x@11 c@12 y@13")
		check(t, r.Verify(t.Context()))
		if to, err := os.Readlink(filepath.Join(dir, "parent")); to != "same-1" || err != nil {
			t.Errorf("the link leads to %q: %v", to, err)
		}
	}
}

// Wherever a stream is cut off, that is found.
func TestStreamCutOff(t *testing.T) {
	b := streamed(t, Options{})
	for n := 0; n < len(b)-1536; n += 16381 {
		_, errs := openedStream(t, b[:n])
		for i, err := range errs {
			if !errors.Is(err, failure.ErrDamaged) {
				t.Fatalf("%d of %d bytes, way %d: %v", n, len(b), i, err)
			}
		}
	}
}

func TestStreamsAreChecked(t *testing.T) {
	pack := func(headers ...tar.Header) []byte {
		var out bytes.Buffer
		w := tar.NewWriter(&out)
		for _, h := range headers {
			check(t, w.WriteHeader(&h))
			_, err := w.Write(make([]byte, h.Size))
			check(t, err)
		}
		check(t, w.Close())
		return out.Bytes()
	}
	for _, tt := range []struct {
		name string
		b    []byte
		want string
	}{
		{"empty", nil, "the stream is empty"},
		{"text", bytes.Repeat([]byte("no image\n"), 100), "neither a directory nor a stream"},
		{"short text", []byte("no image\n"), "it is no image, or a stream that is cut off where it begins"},
		{"no manifest", pack(tar.Header{Name: "a", Size: 3}), "it holds no image"},
		{"twice", pack(tar.Header{Name: "a.img"}, tar.Header{Name: "./a.img"}), "a.img stands there twice"},
		{"elsewhere", pack(tar.Header{Name: "../a.img"}), `"../a.img" is no name`},
		{"absolute", pack(tar.Header{Name: "/a.img"}), `"/a.img" is no name`},
		{"below", pack(tar.Header{Name: "same-x/a.img"}), `is no name`},
		{"followed links", pack(tar.Header{Name: "same-1/pages-1.img", Typeflag: tar.TypeLink, Linkname: "pages-1.img"}), "same-1/pages-1.img is stored as a link to pages-1.img"},
		{"device", pack(tar.Header{Name: "a.img", Typeflag: tar.TypeBlock}), "a.img is not a regular file"},
		{"holes", sparse(t, "pax"), "stored with holes"},
		{"holes as of old", sparse(t, "gnu"), "stored with holes"},
	} {
		_, errs := openedStream(t, tt.b)
		for _, err := range errs {
			if !errors.Is(err, failure.ErrDamaged) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: error %v, want %q", tt.name, err, tt.want)
			}
		}
	}
}

// sparse is what tar(1) makes of a file with a hole.
func sparse(t *testing.T, format string) []byte {
	t.Helper()
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "a.img"))
	check(t, err)
	_, err = f.WriteAt([]byte("x"), 1<<20)
	check(t, err)
	check(t, f.Close())
	b, err := exec.Command("tar", "-S", "--format="+format, "-C", dir, "-cf", "-", "a.img").Output()
	check(t, err)
	return b
}

// brokenPipe is a reader that has ended.
type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, os.ErrClosed }

func TestStreamThatNobodyTakes(t *testing.T) {
	w, err := CreateStream(brokenPipe{}, t.TempDir(), Options{})
	check(t, err)
	if err := w.Commit(&Manifest{}); err == nil || !strings.Contains(err.Error(), "write the stream") {
		t.Errorf("error %v", err)
	}
	check(t, w.Abort())
	if _, err := CreateStream(brokenPipe{}, t.TempDir(), Options{Parent: open(t, memory(t, 'b'))}); !errors.Is(err, failure.ErrUsage) {
		t.Errorf("with a parent: %v", err)
	}
	w, err = CreateStream(brokenPipe{}, "/nowhere", Options{})
	check(t, err)
	if _, err := w.Pages("2"); err == nil || len(failure.Hints(err)) == 0 {
		t.Errorf("no place for it: %v", err)
	}
}

func FuzzStream(f *testing.F) {
	f.Add(streamed(f, Options{}))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, errs := openedStream(t, b)
		for _, err := range errs {
			if err != nil && !errors.Is(err, failure.ErrDamaged) && !errors.Is(err, failure.ErrIncompatible) {
				t.Error(err)
			}
		}
	})
}
