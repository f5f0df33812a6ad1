package console

import (
	"maps"
	"slices"

	uv "github.com/charmbracelet/ultraviolet"
	"github.com/charmbracelet/x/ansi"
	"github.com/charmbracelet/x/vt"
)

// Private modes with a meaning of their own here (DECSET, in xterm's control
// sequences).
const (
	modeOrigin   = 6
	modeKeypad   = 66
	modeMargins  = 69
	modeAlt      = 47
	modeAltClear = 1047
	modeSave     = 1048
	modeAltSave  = 1049
	modeSync     = 2026 // of a moment only
)

// state is what the emulator does not show of itself.
type state struct {
	modes    map[int]bool // private ones that were set or reset, beside those of screens
	newline  bool         // LNM
	title    string
	titled   bool
	shaped   bool // the cursor was given a shape
	pen      uv.Style
	top      int // scrolling region: its first row, and the one behind its last; 0, 0: all
	bottom   int
	tabs     map[int]bool // columns; nil: as they are at first
	charsets [4]byte      // final bytes by which G0 to G3 were chosen; 0: US ASCII
	keys     []int        // flags of kitty's keyboard protocol, as they were pushed
	modify   int          // xterm's modifyOtherKeys
	saved    [2]*cursor   // DECSC, on the main and on the alternate screen
	main     *beneath     // while the alternate screen is shown
	last     lastly
}

// cursor is where one was saved.
type cursor struct {
	uv.Position
	pen uv.Style
}

// beneath is the main screen, while another is shown.
type beneath struct {
	rows   []uv.Line
	cursor cursor
}

// shown is 1 for the alternate screen, else 0.
func (s *state) shown() int {
	if s.main != nil {
		return 1
	}
	return 0
}

func isAlt(mode int) bool { return mode == modeAlt || mode == modeAltClear || mode == modeAltSave }

// note keeps what output ended with.
func (s *state) note(last lastly) {
	if last != nothing {
		s.last = last
	}
}

// watch has the emulator tell of what it does not show. Handlers registered later
// are asked first; false leaves the work to those before.
func (s *Screen) watch(e *vt.Emulator) {
	s.modes = map[int]bool{}
	noteMode := func(m ansi.Mode, on bool) {
		switch m := m.(type) {
		case ansi.DECMode:
			s.modes[int(m)] = on
		case ansi.ANSIMode:
			if m == 20 {
				s.newline = on
			}
		}
	}
	e.SetCallbacks(vt.Callbacks{
		Title:       func(t string) { s.title, s.titled = t, true },
		CursorStyle: func(vt.CursorStyle, bool) { s.shaped = true },
		EnableMode:  func(m ansi.Mode) { noteMode(m, true) },
		DisableMode: func(m ansi.Mode) { noteMode(m, false) },
	})
	csi := func(cmd int, f func(ansi.Params)) {
		e.RegisterCsiHandler(cmd, func(p ansi.Params) bool {
			f(p)
			return false
		})
	}
	esc := func(cmd int, f func()) {
		e.RegisterEscHandler(cmd, func() bool {
			f()
			return false
		})
	}
	save := func() { s.saved[s.shown()] = &cursor{e.CursorPosition(), s.pen} }
	recall := func() {
		if c := s.saved[s.shown()]; c != nil {
			s.pen = c.pen
		}
	}
	csi('m', func(p ansi.Params) { uv.ReadStyle(p, &s.pen) })
	csi(ansi.Command('>', 0, 'm'), func(p ansi.Params) {
		if what, _, _ := p.Param(0, 0); what == 4 {
			s.modify, _, _ = p.Param(1, 0)
		}
	})
	csi(ansi.Command('>', 0, 'u'), func(p ansi.Params) {
		flags, _, _ := p.Param(0, 0)
		if len(s.keys) < 16 {
			s.keys = append(s.keys, flags)
		}
	})
	csi(ansi.Command('<', 0, 'u'), func(p ansi.Params) {
		n, _, _ := p.Param(0, 1)
		s.keys = s.keys[:max(0, len(s.keys)-max(n, 1))]
	})
	csi('r', func(p ansi.Params) {
		top, _, _ := p.Param(0, 1)
		bottom, _, _ := p.Param(1, e.Height())
		if top, bottom = max(top, 1), min(bottom, e.Height()); bottom < 1 {
			bottom = e.Height()
		}
		if top < bottom {
			s.top, s.bottom = top-1, bottom
		}
	})
	csi(ansi.Command('?', 0, 'h'), func(p ansi.Params) {
		p.ForEach(-1, func(_, mode int, _ bool) {
			if mode == modeSave || mode == modeAltSave {
				save()
			}
			if isAlt(mode) && s.main == nil {
				s.main = &beneath{rowsOf(e), cursor{e.CursorPosition(), s.pen}}
			}
		})
	})
	csi(ansi.Command('?', 0, 'l'), func(p ansi.Params) {
		p.ForEach(-1, func(_, mode int, _ bool) {
			if mode == modeSave {
				recall()
			}
			if isAlt(mode) && s.main != nil {
				s.pen, s.main = s.main.cursor.pen, nil
			}
		})
	})
	e.RegisterCsiHandler('J', func(p ansi.Params) bool {
		switch what, _, _ := p.Param(0, 0); what {
		case 2: // the emulator's own keeps what was there as if it had scrolled away
			blank := uv.EmptyCell
			blank.Style.Bg = s.pen.Bg
			for y := range e.Height() {
				for x := range e.Width() {
					e.SetCell(x, y, &blank)
				}
			}
			return true
		case 3: // and this clears what is shown, too
			s.forget()
			return true
		}
		return false
	})
	csi('s', func(ansi.Params) {
		if !s.modes[modeMargins] {
			save()
		}
	})
	csi('u', func(ansi.Params) { recall() })
	csi('g', func(p ansi.Params) {
		switch what, _, _ := p.Param(0, 0); what {
		case 0:
			s.setTabs(e.Width())
			delete(s.tabs, e.CursorPosition().X)
		case 3:
			s.tabs = map[int]bool{}
		}
	})
	esc('H', func() {
		s.setTabs(e.Width())
		s.tabs[e.CursorPosition().X] = true
	})
	esc('7', save)
	esc('8', recall)
	for i, g := range []byte("()*+") {
		for _, set := range []byte("AB0") {
			esc(ansi.Command(0, g, set), func() { s.charsets[i] = set })
		}
	}
	esc('c', func() {
		s.forget()
		s.state = state{modes: map[int]bool{}}
	})
}

// setTabs makes of tabs as they are at first a list that can be changed.
func (s *state) setTabs(cols int) {
	if s.tabs != nil {
		return
	}
	s.tabs = map[int]bool{}
	for x := 8; x < cols; x += 8 {
		s.tabs[x] = true
	}
}

// sortedModes are the private modes to be set again, in order.
func (s *state) sortedModes() []int {
	return slices.Sorted(maps.Keys(s.modes))
}
