package image

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestProgress: what is counted shows, by phase.
func TestProgress(t *testing.T) {
	var p Progress
	files := p.Begin(PhaseFiles, 0)
	files.Add(3)
	memory := p.BeginOf(2, PhaseMemory, 100)
	memory.Add(40)
	memory.Ahead(func() uint64 { return 5 })
	files.End()
	files.End()
	want := []PhaseState{
		{Name: PhaseFiles, Done: 3, Total: 3},
		{Name: PhaseMemory, Processes: 2, Done: 45, Total: 100},
	}
	same := cmpopts.IgnoreFields(PhaseState{}, "Began", "Ended")
	if d := cmp.Diff(want, p.Phases(), same); d != "" {
		t.Error(d)
	}
	memory.Ahead(nil)
	memory.Add(70)
	got := p.Phases()
	if d := cmp.Diff(PhaseState{Name: PhaseMemory, Processes: 2, Done: 110, Total: 110}, got[1], same); d != "" {
		t.Errorf("more than was foretold: %s", d)
	}
	if got[0].Ended.IsZero() || !got[1].Ended.IsZero() {
		t.Errorf("ended: %v, want the first alone", got)
	}
}

// TestProgressOfNobody: nobody looks, and nothing goes wrong.
func TestProgressOfNobody(t *testing.T) {
	var p *Progress
	f := p.Begin(PhaseMemory, 1)
	f.Add(1)
	f.Ahead(nil)
	f.End()
	if p.Phases() != nil {
		t.Error("it counts")
	}
	var b bytes.Buffer
	if _, err := io.Copy(f.Writer(&b), f.Reader(bytes.NewReader([]byte("x")))); err != nil || b.String() != "x" {
		t.Errorf("copied %q: %v", b.String(), err)
	}
}

// TestProgressOfImage: all that is written, read again and verified is counted, in a
// directory and in a stream.
func TestProgressOfImage(t *testing.T) {
	const pages = 3 * pieceSize
	for _, level := range []Level{Plain, Default} {
		var p Progress
		var b bytes.Buffer
		w, err := CreateStream(&b, t.TempDir(), Options{Compress: level, Progress: &p})
		check(t, err)
		memory := p.BeginOf(1, PhaseMemory, pages)
		w.Count(memory)
		f, err := w.Pages("2")
		check(t, err)
		check(t, f.Write(1<<20, bytes.Repeat([]byte("ckpt"), pages/4)))
		check(t, f.Close())
		memory.End()
		check(t, w.Commit(&Manifest{}))
		r, err := Keys{}.ReceiveStream(&b, t.TempDir(), "standard input", &p)
		check(t, err)
		defer r.Close()
		r.Report(&p)
		check(t, r.Verify(t.Context()))
		done := map[string][]uint64{}
		for _, s := range p.Phases() {
			if s.Ended.IsZero() || s.Done != s.Total || s.Ended.Before(s.Began) || s.Ended.After(time.Now()) {
				t.Errorf("%+v has not ended", s)
			}
			done[s.Name] = append(done[s.Name], s.Done)
		}
		out := done[PhaseStream]
		if len(out) != 2 || out[0] != out[1] || out[0] <= uint64(r.Size()) {
			t.Errorf("streams of %d bytes, of an image of %d", out, r.Size())
		}
		if got := done[PhaseMemory]; len(got) != 1 || got[0] != pages {
			t.Errorf("memory: %d bytes of %d", got, pages)
		}
		sums := done[PhaseChecksums]
		if len(sums) != 2 || sums[0] > sums[1] || sums[1] != r.summed() {
			t.Errorf("checksums made of %d bytes; there are %d", sums, r.summed())
		}
	}
}
