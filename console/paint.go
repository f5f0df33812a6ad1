package console

import (
	"bytes"
	"fmt"

	uv "github.com/charmbracelet/ultraviolet"
	"github.com/charmbracelet/x/ansi"
)

// Clean brings a terminal, whatever a program has set in it, into the state that
// Paint begins with, and that a shell expects. It moves nothing on the screen, but
// leaves the alternate one, if that is shown.
const Clean = "\x1b[?1049l" + // the main screen
	"\x1b[!p" + // DECSTR: most of what follows, where it is known
	"\x1b[r\x1b[?6l\x1b[?7h\x1b[4l\x1b[20l" + // scrolling region, origin, wrap, insert, new line
	"\x1b[m\x1b]8;;\x1b\\\x1b(B\x0f" + // colours, link, characters
	"\x1b[?25h\x1b[0 q" + // cursor
	"\x1b[?1l\x1b>" + // keys
	"\x1b[<16u\x1b[>4m" + // kitty's and xterm's keyboard protocols
	"\x1b[?9l\x1b[?1000l\x1b[?1001l\x1b[?1002l\x1b[?1003l\x1b[?1004l\x1b[?1005l\x1b[?1006l\x1b[?1015l" + // mouse and focus
	"\x1b[?2004l\x1b[?2026l\x1b[?2048l" // pasting, drawing at once, telling its size

// Paint is what shows the same on an empty screen of the same size, the cursor in
// its first place: the lines that have left at the top go before it.
func (s *Screen) Paint() []byte {
	var b bytes.Buffer
	for _, l := range s.gone {
		b.WriteString(l + "\r\n")
	}
	if s.main != nil {
		paintRows(&b, s.main.rows, s.emulator.Width())
		s.paintSaved(&b, s.saved[0])
		move(&b, s.main.cursor.Position)
		b.WriteString(s.main.cursor.pen.String())
		b.WriteString("\x1b[?1049h\x1b[m\x1b[H")
	}
	paintRows(&b, rowsOf(s.emulator), s.emulator.Width())
	s.paintState(&b)
	b.Write(s.begun)
	return b.Bytes()
}

// paintRows leaves the cursor in the last row.
func paintRows(b *bytes.Buffer, rows []uv.Line, cols int) {
	for y, l := range rows {
		if y > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(l[:min(len(l), cols)].Render())
	}
}

func move(b *bytes.Buffer, at uv.Position) { fmt.Fprintf(b, "\x1b[%d;%dH", at.Y+1, at.X+1) }

func (s *Screen) paintState(b *bytes.Buffer) {
	if s.titled {
		fmt.Fprintf(b, "\x1b]2;%s\x1b\\", s.title)
	}
	s.paintTabs(b)
	s.paintSaved(b, s.saved[s.shown()])
	if s.bottom > 0 {
		fmt.Fprintf(b, "\x1b[%d;%dr", s.top+1, s.bottom)
	}
	if s.newline {
		b.WriteString("\x1b[20h")
	}
	s.paintModes(b)
	for i, set := range s.charsets {
		if set != 0 {
			b.Write([]byte{ansi.ESC, "()*+"[i], set})
		}
	}
	s.paintCursor(b)
}

// paintTabs sets tab stops anew, if they are others than at first.
func (s *Screen) paintTabs(b *bytes.Buffer) {
	if s.tabs == nil {
		return
	}
	b.WriteString("\x1b[3g")
	for x := range s.emulator.Width() {
		if s.tabs[x] {
			move(b, uv.Pos(x, 0))
			b.WriteString("\x1bH")
		}
	}
}

func (s *Screen) paintSaved(b *bytes.Buffer, c *cursor) {
	if c == nil {
		return
	}
	move(b, c.Position)
	b.WriteString(c.pen.String() + "\x1b7\x1b[m")
}

func (s *Screen) paintModes(b *bytes.Buffer) {
	for _, m := range s.sortedModes() {
		switch m {
		case modeOrigin, modeAlt, modeAltClear, modeSave, modeAltSave, modeSync, modeMargins:
			continue
		case modeKeypad:
			b.WriteString(map[bool]string{true: "\x1b=", false: "\x1b>"}[s.modes[m]])
			continue
		}
		fmt.Fprintf(b, "\x1b[?%d%c", m, map[bool]byte{true: 'h', false: 'l'}[s.modes[m]])
	}
	if s.modify != 0 {
		fmt.Fprintf(b, "\x1b[>4;%dm", s.modify)
	}
	for _, flags := range s.keys {
		fmt.Fprintf(b, "\x1b[>%du", flags)
	}
	if s.shaped {
		style, blink := s.emulator.CursorStyle()
		n := int(style)*2 + 1
		if !blink {
			n++
		}
		fmt.Fprintf(b, "\x1b[%d q", n)
	}
}

// paintCursor goes last: what was set before moves it.
func (s *Screen) paintCursor(b *bytes.Buffer) {
	at := s.emulator.CursorPosition()
	b.WriteString("\x1b[m")
	if s.modes[modeOrigin] {
		b.WriteString("\x1b[?6h")
		at.Y = max(at.Y-s.top, 0)
	}
	last := s.emulator.Width() - 1
	if c := s.emulator.CellAt(at.X, s.emulator.CursorPosition().Y); at.X == last && s.last == text && c != nil && !c.IsZero() {
		// It waits behind the last column, where nothing but a character leads.
		move(b, at)
		b.WriteString(uv.Line{*c}.Render())
	} else {
		move(b, at)
	}
	b.WriteString(s.pen.String())
}

// leave is where a terminal that shows the main screen leaves the cursor for others:
// at the beginning of a line, below all that is there.
func (s *Screen) leave() []byte {
	at, rows := s.emulator.CursorPosition(), rowsOf(s.emulator)
	if s.main != nil {
		at, rows = s.main.cursor.Position, s.main.rows
	}
	for y := range rows {
		if y > at.Y && rows[y].String() != "" {
			at = uv.Pos(1, y)
		}
	}
	var b bytes.Buffer
	move(&b, uv.Pos(0, at.Y))
	if at.X > 0 {
		b.WriteString("\r\n")
	}
	return b.Bytes()
}
