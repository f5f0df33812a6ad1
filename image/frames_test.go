package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"ckpt/failure"
)

// packed compresses b, written in pieces.
func packed(t testing.TB, b []byte, l Level) []byte {
	t.Helper()
	c, err := newCompression(l)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := &frameWriter{c: c, out: &out}
	for part := range slices.Chunk(b, 300_000) {
		if _, err := w.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// mixed is bytes that compress by about half.
func mixed(n int) []byte {
	rnd := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	for i := 0; i < n; i += 2 {
		b[i] = byte(rnd.IntN(256))
	}
	return b
}

func TestFrames(t *testing.T) {
	for _, size := range []int{0, 1, frameSize - 1, frameSize, 3*frameSize + 4096} {
		for _, level := range []Level{Fastest, Default, Better, Best} {
			if level > Default && size > frameSize {
				continue // much the same, and slow
			}
			b := mixed(size)
			p := packed(t, b, level)
			f, err := openFrames("pages-1.img.zst", bytes.NewReader(p), int64(len(p)))
			check(t, err)
			got := make([]byte, size)
			if n, err := f.ReadAt(got, 0); n != size || err != nil || !bytes.Equal(got, b) {
				t.Errorf("%d bytes, level %d: %d are read (%v)", size, level, n, err)
			}
			// Across the border of two frames, and behind the end.
			if at := int64(frameSize - 10); int64(size) > at+20 {
				if _, err := f.ReadAt(got[:20], at); err != nil || !bytes.Equal(got[:20], b[at:at+20]) {
					t.Errorf("across: %v", err)
				}
			}
			if n, err := f.ReadAt(make([]byte, 2), max(int64(size)-1, 0)); n != min(size, 1) || err != io.EOF {
				t.Errorf("at the end: %d (%v)", n, err)
			}
			// Any decoder of zstd reads it from front to back.
			d, err := zstd.NewReader(bytes.NewReader(p))
			check(t, err)
			all, err := io.ReadAll(d)
			if err != nil || !bytes.Equal(all, b) {
				t.Errorf("%d bytes, level %d: as a stream: %v", size, level, err)
			}
			d.Close()
		}
	}
}

func TestFramesAreChecked(t *testing.T) {
	good := packed(t, mixed(2*frameSize), Default)
	n := len(good)
	table := n - seekFooter - 2*seekEntry
	put := func(at int, v uint32) func([]byte) []byte {
		return func(b []byte) []byte { binary.LittleEndian.PutUint32(b[at:], v); return b }
	}
	for _, tt := range []struct {
		name  string
		spoil func([]byte) []byte
		want  string
	}{
		{"empty", func(b []byte) []byte { return nil }, "cut off"},
		{"cut", func(b []byte) []byte { return b[:n-1] }, "does not end with the sizes"},
		{"front gone", func(b []byte) []byte { return b[5:] }, "its frames have"},
		{"many frames", put(n-9, 1<<31), "frames"},
		{"no skipping", put(table-8, 7), "no frame"},
		{"another length", put(table-4, 7), "no frame"},
		{"large", put(table+4, mostFrame+1), "a frame of 8.4 MB"},
		{"longer", put(table, 5), "its frames have"},
		{"says more", put(table+4, frameSize+4096), "has 1.0 MB, not 1.1 MB"},
		{"says less", put(table+4, 4096), ""},
		{"contents", func(b []byte) []byte { b[20000] ^= 1; return b }, "does not decode"},
	} {
		b := tt.spoil(bytes.Clone(good))
		f, err := openFrames("pages-1.img.zst", bytes.NewReader(b), int64(len(b)))
		if err == nil {
			_, err = f.ReadAt(make([]byte, f.size), 0)
		}
		if !errors.Is(err, failure.ErrDamaged) || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "pages-1.img.zst") {
			t.Errorf("%s: error %v, want %q", tt.name, err, tt.want)
		}
	}
}

// Whatever the bytes are, reading ends, with contents or with damage.
func FuzzFrames(f *testing.F) {
	f.Add(packed(f, mixed(10000), Default))
	f.Add(packed(f, nil, Default))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := openFrames("x", bytes.NewReader(b), int64(len(b)))
		if err == nil && r.size < 4<<20 {
			_, err = r.ReadAt(make([]byte, r.size), 0)
		}
		if err != nil && !errors.Is(err, failure.ErrDamaged) {
			t.Error(err)
		}
	})
}

func TestCompressedImage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "img")
	w, err := Create(dir, Options{Compress: Default})
	check(t, err)
	write(t, w, "2", "a@10 b@11 c@12 d@80")
	write(t, w, "3", "a@10 x@11 c@12 c@13")
	check(t, w.Commit(&Manifest{}))
	r := open(t, dir)
	want(t, r, "2", "a@10 b@11 c@12 d@80")
	want(t, r, "3", "a@10 x@11 c@12 c@13")
	check(t, r.Verify(t.Context()))
	if a := w.Amounts(); a.Written != 5*PageSize || a.Same != 3*PageSize {
		t.Errorf("%+v", a)
	}
	for _, id := range []string{"2", "3"} {
		p, err := PageRuns(r, id)
		check(t, err)
		var out bytes.Buffer
		check(t, Send(&out, p.Runs))
		if got, want := out.String(), map[string]string{"2": "abcd", "3": "axcc"}[id]; len(got) != 4*PageSize || got[0] != want[0] || got[PageSize] != want[1] || got[3*PageSize] != want[3] {
			t.Errorf("sent of %s: %d bytes", id, len(got))
		}
		p.Close()
		c, err := r.Contents(id)
		check(t, err)
		b := make([]byte, 1)
		if _, err := c.ReadAt(b, 0x12000); err != nil || b[0] != 'c' {
			t.Errorf("contents of %s: %q (%v)", id, b, err)
		}
		c.Close()
	}
	flip(t, filepath.Join(dir, "pages-1.img.zst"), 10)
	c, err := open(t, dir).Contents("2")
	if err == nil {
		_, err = c.ReadAt(make([]byte, 1), 0x10000)
	}
	if !errors.Is(err, failure.ErrDamaged) {
		t.Errorf("flipped: %v", err)
	}
}
