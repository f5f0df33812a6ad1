package console

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	uv "github.com/charmbracelet/ultraviolet"
)

func screen(t *testing.T, cols, rows uint16) *Screen {
	s := NewScreen(Size{Rows: rows, Cols: cols})
	t.Cleanup(s.Close)
	return s
}

// inputs are what programs write.
var inputs = map[string]string{
	"nothing":       "",
	"a prompt":      "$ ls\r\na  b  c\r\n$ ",
	"scrolled":      strings.Repeat("a line\r\nanother\r\n", 50) + "end",
	"colours":       "\x1b[1;31mred\x1b[0m \x1b[48;2;1;2;3mback \x1b[4:3mcurly\x1b[m\x1b[38;5;200m pen stays",
	"full line":     "0123456789",
	"full and more": "0123456789012345678901234567890123456789",
	"behind":        "\x1b[3;1H0123456789\x1b[31m",
	"wide":          "äöü 日本語日本\r\n日本語日本",
	"region":        "\x1b[2;4r\x1b[4;1Ha\nb\nc\nd",
	"origin":        "\x1b[2;4r\x1b[?6h\x1b[2;2Hx",
	"alternate":     "$ vim\r\n\x1b[32m\x1b[?1049h\x1b[H\x1b[2J\x1b[1;5H~\x1b[3;3Hvi\x1b[7m\x1b[?25l",
	"and back":      "$ vim\r\n\x1b[32mg\x1b[?1049h\x1b[H\x1b[2J\x1b[31mvi\x1b[?1049lgreen",
	"saved":         "\x1b[2;3H\x1b[33m\x1b7\x1b[m\x1b[5;5Hx",
	"modes":         "\x1b[?1h\x1b=\x1b[?2004h\x1b[?1000h\x1b[?1006h\x1b[?7l\x1b[5 q\x1b[>1u\x1b[>4;2m",
	"lines":         "\x1b(0lqqk\x1b(B \x1b)0\x0e",
	"tabs":          "\x1b[3g\x1b[1;4H\x1bH\r",
	"title":         "\x1b]2;a title\x07",
	"begun":         "text\x1b[3",
	"begun title":   "text\x1b]2;a ti",
	"half":          "text\xe6\x97",
	"cleared":       "one\r\ntwo\r\n\x1b[H\x1b[2J\x1b[3Jthree",
	"background":    "\x1b[44m\x1b[2J\x1b[2;2Hblue",
	"link":          "\x1b]8;;http://x/\x1b\\link\x1b]8;;\x1b\\",
	"reset":         "\x1b[?1h\x1b[31mred\x1bc\x1b[2;2Hx",
	"newline":       "\x1b[20hone\ntwo",
}

// more shows what is not seen.
const more = "0m0\tM\nxyz日\r\nqqq\x1b[1;1H\x1b8S\x1b[9;1H\n\nend\x1b[K"

// A screen painted anew is as the one that was, and what a program writes next comes
// out the same.
func TestPaint(t *testing.T) {
	for name, in := range inputs {
		t.Run(name, func(t *testing.T) {
			a, b := screen(t, 10, 5), screen(t, 10, 5)
			a.Write([]byte(in))
			b.Write(a.Paint())
			same(t, a, b)
			a.Write([]byte(more))
			b.Write([]byte(more))
			same(t, a, b)
		})
	}
}

// One after the other, the last cut wherever it may be. Not with DECOM, at which a
// terminal moves its cursor, and the emulator does not; nor with what is cut already.
func TestPaintRandom(t *testing.T) {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(inputs)) {
		if name != "origin" && !strings.HasPrefix(name, "begun") && name != "half" {
			all = append(all, inputs[name])
		}
	}
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 0))
		a := screen(t, 10, 5)
		for range 6 {
			a.Write([]byte(all[r.IntN(len(all))]))
		}
		in := all[r.IntN(len(all))]
		a.Write([]byte(in[:r.IntN(len(in)+1)]))
		b := screen(t, 10, 5)
		b.Write(a.Paint())
		if p, q := string(a.Paint()), string(b.Paint()); p != q {
			t.Errorf("seed %d: %q and %q", seed, p, q)
		}
	}
}

func same(t *testing.T, a, b *Screen) {
	t.Helper()
	if p, q := string(a.Paint()), string(b.Paint()); p != q {
		t.Errorf("%q\nand\n%q", p, q)
	}
	if p, q := fmt.Sprint(a.emulator.CursorPosition(), a.emulator.IsAltScreen(), a.emulator.CursorHidden()), fmt.Sprint(b.emulator.CursorPosition(), b.emulator.IsAltScreen(), b.emulator.CursorHidden()); p != q {
		t.Errorf("%s and %s", p, q)
	}
}

// Many plain lines at once come out as one after the other.
func TestSkim(t *testing.T) {
	for name, before := range map[string]string{"nothing": "", "text": "some\r\ntext", "behind": "0123456789", "colour": "\x1b[1;31mx", "background": "\x1b[41mx",
		"alternate": "\x1b[?1049h", "region": "\x1b[2;4r", "lines": "\x1b(0", "shifted": "\x1b)0\x0e", "last row": "\x1b[5;3H", "nowrap": "\x1b[?7l", "saved": "\x1b[2;3H\x1b7"} {
		for _, n := range []int{9, 10, 11, 12, 30, 3000} {
			var lines strings.Builder
			for i := range n {
				fmt.Fprintf(&lines, "line %.*d \r\n", i%5, i)
			}
			a, b := screen(t, 10, 5), screen(t, 10, 5)
			for _, s := range []*Screen{a, b} {
				s.Write([]byte(before))
			}
			in := lines.String() + "end\x1b[31mé\r\n" + lines.String()
			a.Write([]byte(in))
			for _, c := range strings.SplitAfter(in, "\n") {
				b.Write([]byte(c))
			}
			t.Run(fmt.Sprint(name, n), func(t *testing.T) { same(t, a, b) })
		}
	}
}

// What scrolls away is kept, and no more than so much of it.
func TestGone(t *testing.T) {
	s := screen(t, 20, 5)
	for i := range 3 * mostLines {
		s.Write(fmt.Appendf(nil, "line %d\r\n", i))
	}
	if n := len(s.gone); n != mostLines {
		t.Fatalf("%d lines are kept", n)
	}
	if want := fmt.Sprintf("line %d", 2*mostLines-4); s.gone[0] != want {
		t.Errorf("the first is %q, not %q", s.gone[0], want)
	}
}

func TestResize(t *testing.T) {
	s := screen(t, 20, 5)
	s.Write([]byte("one\r\ntwo\r\nthree"))
	s.Resize(Size{Rows: 3, Cols: 10})
	if got := uv.Lines(rowsOf(s.emulator)).String(); got != "one\ntwo\nthree" {
		t.Errorf("%q", got)
	}
	s.Resize(Size{})
	if s.emulator.Width() != 80 || s.emulator.Height() != 24 {
		t.Error("no size is not 80 by 24")
	}
}

func TestWhole(t *testing.T) {
	for in, want := range map[string]struct {
		n    int
		last lastly
	}{
		"": {0, nothing}, "abc": {3, text}, "abc\n": {4, movement}, "a\x1b": {1, text}, "a\x1b[": {1, text}, "a\x1b[3": {1, text},
		"a\x1b[31m": {6, text}, "a\x1b[2H": {5, movement}, "\x1b[31m": {5, nothing}, "\x1b]2;x": {0, nothing}, "\x1b]2;x\x1b": {0, nothing},
		"\x1b]2;x\x1b\\y": {8, text}, "\x1b]2;x\x07": {6, nothing}, "ä": {2, text}, "\xc3": {0, text}, "a\xe6\x97": {1, text}, "\x1b(": {0, nothing}, "\x1b(0": {3, movement},
		"\xff\xff": {2, text}, "\x1bP1q": {0, nothing}, "\x1b7x": {3, text},
	} {
		if n, last := whole([]byte(in)); n != want.n || last != want.last {
			t.Errorf("%q: %d, %d", in, n, last)
		}
	}
}

func FuzzScreen(f *testing.F) {
	for _, in := range inputs {
		f.Add([]byte(in))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		a, b := screen(t, 10, 5), screen(t, 10, 5)
		a.Write(in)
		b.Write(a.Paint())
	})
}
