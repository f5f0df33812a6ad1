package console

import (
	"bytes"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
)

// mostBegun is how long a sequence may be that is passed on only when it has
// ended, in bytes: pictures are longer.
const mostBegun = 1 << 20

// lastly is what output ended with, as far as the cursor's place is concerned.
type lastly int

const (
	nothing lastly = iota // that matters: colours, a title
	text
	movement // anything else
)

// whole tells how much of b consists of whole characters and control sequences, and
// what it ends with. b begins with such a one.
func whole(b []byte) (n int, last lastly) {
	for n < len(b) {
		esc := bytes.IndexByte(b[n:], ansi.ESC)
		if esc < 0 {
			esc = len(b) - n
		}
		if esc > 0 {
			last = movement
			if c := b[n+esc-1]; c >= ' ' && c != 0x7f {
				last = text
			}
			n += esc
			continue
		}
		seq, _, read, state := ansi.DecodeSequence(b[n:], ansi.NormalState, nil)
		end := n + read
		if state != ansi.NormalState || len(seq) == 1 && end == len(b) || isString(seq) && !ended(seq) && string(b[end:]) == "\x1b" {
			return n, last
		}
		colour := seq[len(seq)-1] == 'm' && ansi.HasCsiPrefix(seq)
		if !colour && !isString(seq) {
			last = movement
		}
		n = end
	}
	return n - halfRune(b), last
}

// isString tells of a sequence that goes on until ST (ESC \) or BEL.
func isString(seq []byte) bool {
	return len(seq) > 1 && bytes.IndexByte([]byte("]PX^_"), seq[1]) >= 0
}

// ended tells of a string whether it does not wait for the second byte of ST.
func ended(seq []byte) bool {
	return seq[len(seq)-1] == ansi.BEL || bytes.HasSuffix(seq, []byte("\x1b\\"))
}

// halfRune is how many bytes at the end of b are the beginning of a character.
func halfRune(b []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		c := b[len(b)-n]
		if utf8.RuneStart(c) {
			if c >= utf8.RuneSelf && !utf8.FullRune(b[len(b)-n:]) {
				return n
			}
			return 0
		}
	}
	return 0
}
