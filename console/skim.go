package console

import (
	"bytes"
	"slices"

	uv "github.com/charmbracelet/ultraviolet"
	"github.com/charmbracelet/x/ansi"
)

// skim takes in many plain lines at once: those that no longer stand on the screen in
// the end go straight to the lines that have left it. It gives how much of b that was; 0:
// it has to be emulated. The emulator moves every cell for each line that scrolls.
func (s *Screen) skim(b []byte) int {
	rows, cols := s.emulator.Height(), s.emulator.Width()
	if !s.plain() {
		return 0
	}
	lines, n := plainLines(b, cols)
	if len(lines) <= 2*rows {
		return 0
	}
	// The first of them push away what is shown. The last are shown, and push away the
	// first; those between would have come behind these.
	head, tail := lines[:rows], lines[len(lines)-rows+1:]
	between := lines[rows : len(lines)-rows+1]
	for _, l := range slices.Concat(head, tail) {
		s.emulate(l)
	}
	for _, l := range between[max(0, len(between)-mostLines):] {
		s.gone = append(s.gone, s.styled(bytes.TrimRight(l, "\r\n")))
	}
	s.cut()
	return n
}

// plain tells whether characters come out as they are, one behind the other, in lines
// that leave the screen at its top.
func (s *Screen) plain() bool {
	return s.main == nil && s.bottom == 0 && s.charsets[0] == 0 && !s.modes[modeOrigin] && !s.modes[modeMargins] && s.pen.Bg == nil
}

// styled is a line as render has it.
func (s *Screen) styled(l []byte) string {
	if s.pen.IsZero() || len(l) == 0 {
		return string(bytes.TrimRight(l, " "))
	}
	return s.pen.Diff(&uv.Style{}) + string(l) + ansi.ResetStyle
}

// plainLines are those that b begins with, each with its end, and their length: of
// printable ASCII, no longer than cols.
func plainLines(b []byte, cols int) (lines [][]byte, n int) {
	for {
		end := bytes.IndexByte(b[n:], '\n') + 1
		l := b[n : n+end]
		if end < 2 || l[end-2] != '\r' || end-2 > cols || slices.ContainsFunc(l[:end-2], func(c byte) bool { return c < ' ' || c > '~' }) {
			return lines, n
		}
		lines, n = append(lines, l), n+end
	}
}
