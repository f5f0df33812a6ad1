package image

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ckpt/e2e/unpack"
)

// golden are images that released versions of ckpt wrote (testdata/golden.c), and
// what was read from them then. They are never made anew: a format stays readable.
var golden = []string{"format-1"}

// TestGolden reads the images of every format there was: nothing that was read from
// them may be missing or different. There may be more: a reader learns.
func TestGolden(t *testing.T) {
	for _, name := range golden {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			unpack.File(t, filepath.Join("testdata", name+".tar.gz"), dir)
			b, err := os.ReadFile(filepath.Join("testdata", name+".json"))
			check(t, err)
			var want map[string]any
			check(t, json.Unmarshal(b, &want))
			got := map[string]any{}
			dirs, err := os.ReadDir(dir)
			check(t, err)
			for _, d := range dirs {
				got[d.Name()] = allOf(t, filepath.Join(dir, d.Name()))
			}
			b, err = json.Marshal(got)
			check(t, err)
			var now any
			check(t, json.Unmarshal(b, &now))
			for _, d := range missing("", want, now) {
				t.Error(d)
			}
		})
	}
}

// allOf is what an image says, and a sum over the contents of each pagemap.
func allOf(t *testing.T, dir string) map[string]any {
	t.Helper()
	r := open(t, dir)
	check(t, r.Verify(t.Context()))
	s, err := Summarize(r)
	check(t, err)
	sums := map[string]string{}
	for name := range r.sizes {
		id, is := strings.CutPrefix(strings.TrimSuffix(name, suffix), "pagemap-")
		if !is || strings.Contains(id, "/") {
			continue
		}
		c, err := r.Contents(id)
		check(t, err)
		sum := crc32.NewIEEE()
		for _, run := range c.Runs {
			fmt.Fprintf(sum, "%#x %d ", run.Vaddr, run.Pages)
			b := make([]byte, run.Pages*PageSize)
			_, err := c.ReadAt(b, int64(run.Vaddr))
			check(t, err)
			sum.Write(b)
		}
		c.Close()
		sums[id] = fmt.Sprintf("%08x", sum.Sum32())
	}
	return map[string]any{"summary": s, "contents": sums}
}

// missing is what is in want and not, or otherwise, in got.
func missing(path string, want, got any) (out []string) {
	switch w := want.(type) {
	case map[string]any:
		g, _ := got.(map[string]any)
		for _, k := range slices.Sorted(maps.Keys(w)) {
			out = append(out, missing(path+"/"+k, w[k], g[k])...)
		}
	case []any:
		g, _ := got.([]any)
		if len(g) != len(w) {
			return []string{fmt.Sprintf("%s: %d elements, not %d", path, len(g), len(w))}
		}
		for i := range w {
			out = append(out, missing(fmt.Sprintf("%s/%d", path, i), w[i], g[i])...)
		}
	default:
		if want != got {
			out = append(out, fmt.Sprintf("%s: %v, not %v", path, got, want))
		}
	}
	return out
}

func TestMissing(t *testing.T) {
	want := map[string]any{"a": 1.0, "b": []any{"x", map[string]any{"c": nil}}}
	if d := missing("", want, map[string]any{"a": 1.0, "b": []any{"x", map[string]any{"new": 1}}, "more": 2}); len(d) > 0 {
		t.Errorf("more is there: %q", d)
	}
	for _, got := range []map[string]any{
		{"b": want["b"]}, {"a": 2.0, "b": want["b"]}, {"a": 1.0, "b": []any{"x"}}, {"a": 1.0, "b": []any{"y", nil}}, {"a": 1.0},
	} {
		if d := missing("", want, got); len(d) != 1 {
			t.Errorf("%v: %q", got, d)
		}
	}
}
