// Package console runs the terminal of a container: it holds the master of a
// pseudoterminal (pty(7)), knows what the terminal shows, and lets one client
// after the other look at it and type. What is shown is a program's own; this
// package only remembers it, so that another terminal can be brought to show the
// same.
package console

import (
	"io"
	"slices"
	"sync/atomic"

	uv "github.com/charmbracelet/ultraviolet"
	"github.com/charmbracelet/x/vt"
)

// Size is that of a terminal's window, as in struct winsize (TIOCSWINSZ(2const)).
type Size struct{ Rows, Cols, X, Y uint16 }

// usable is a size that a screen can have: where nobody has set one, the kernel
// has 0 for it.
func (z Size) usable() (cols, rows int) {
	cols, rows = int(z.Cols), int(z.Rows)
	if cols == 0 || rows == 0 {
		return 80, 24
	}
	return min(cols, mostCells), min(rows, mostCells)
}

const (
	mostCells = 1000 // columns, and rows, of a screen that is remembered
	// mostLines is how many lines that have left the screen at its top are kept.
	mostLines = 2000
	// atOnce is how many of those may come of one piece of output of pieceSize
	// bytes, each of which can be a line.
	atOnce    = pieceSize + mostCells
	pieceSize = 4096
)

// Screen is what a terminal shows, by all that was written to it.
type Screen struct {
	emulator *vt.Emulator
	begun    []byte   // of a sequence or a character that has yet to end
	gone     []string // lines that have left at the top, the oldest first
	answers  atomic.Pointer[func([]byte)]
	state
}

// NewScreen is an empty one. It is ended with Close.
func NewScreen(z Size) *Screen {
	cols, rows := z.usable()
	s := &Screen{emulator: vt.NewEmulator(cols, rows)}
	s.emulator.SetScrollbackSize(atOnce)
	s.watch(s.emulator)
	go s.readAnswers()
	return s
}

// Write takes in what a program has written.
func (s *Screen) Write(b []byte) {
	b = append(s.begun, b...)
	n, last := whole(b)
	s.begun = nil
	if len(b)-n <= mostBegun {
		s.begun = slices.Clone(b[n:])
	} else {
		n = len(b) // the emulator has to find its way
	}
	for b = b[:n]; len(b) > 0; {
		if n := s.skim(b); n > 0 {
			b = b[n:]
			continue
		}
		n := min(len(b), pieceSize)
		s.emulate(b[:n])
		b = b[n:]
	}
	s.note(last)
}

// emulate shows a piece.
func (s *Screen) emulate(b []byte) {
	_, _ = s.emulator.Write(b) // fails only when it is closed
	s.harvest()
}

// harvest takes the lines that have left the screen out of the emulator, which
// keeps some 100 bytes for each cell.
func (s *Screen) harvest() {
	back := s.emulator.Scrollback()
	for _, l := range back.Lines() {
		s.gone = append(s.gone, l.Render())
	}
	back.Clear()
	s.cut()
}

// cut drops lines that are too many.
func (s *Screen) cut() {
	if n := len(s.gone) - mostLines; n > 0 {
		s.gone = slices.Delete(s.gone, 0, n)
	}
}

// Resize gives it another size. Lines are cut or grow at their right end.
func (s *Screen) Resize(z Size) {
	cols, rows := z.usable()
	if cols == s.emulator.Width() && rows == s.emulator.Height() {
		return
	}
	s.emulator.Resize(cols, rows)
	s.top, s.bottom = 0, 0
	s.tabs = nil
}

// Answers has f given what a terminal answers to questions of the program's, as where
// its cursor is. f must not wait: Write does.
func (s *Screen) Answers(f func([]byte)) { s.answers.Store(&f) }

func (s *Screen) readAnswers() {
	b := make([]byte, 4096)
	for {
		n, err := s.emulator.Read(b)
		if err != nil {
			return
		}
		if f := s.answers.Load(); f != nil {
			(*f)(b[:n])
		}
	}
}

// Close ends it.
func (s *Screen) Close() {
	// Not by Emulator.Close, which is not for who still reads.
	if w, ok := s.emulator.InputPipe().(io.Closer); ok {
		_ = w.Close()
	}
}

// forget drops the lines that have left the screen.
func (s *Screen) forget() {
	s.gone = nil
	s.emulator.ClearScrollback()
}

// rowsOf are the cells of what an emulator shows.
func rowsOf(e *vt.Emulator) []uv.Line {
	out := make([]uv.Line, e.Height())
	for y := range out {
		out[y] = make(uv.Line, e.Width())
		for x := range out[y] {
			if c := e.CellAt(x, y); c != nil {
				out[y][x] = *c
			}
		}
	}
	return out
}
