package messages

import (
	"slices"
	"strings"
	"unicode"
)

// text is a message in pieces.
type text []piece

// piece is words that stand in the source, or what is put in at run time.
type piece struct {
	words string
	name  string // of what is put in; errors are named ERR
	param int    // of the function: what it is called with is put in; 0: none, 1: the first
	whole bool   // with param: it is a format, and what follows are its arguments
}

func words(s string) text { return text{{words: s}} }

func (t text) equal(o text) bool { return slices.Equal(t, o) }

// open: a parameter is part of it.
func (t text) open() bool { return slices.ContainsFunc(t, func(p piece) bool { return p.param > 0 }) }

// empty: there are no words of the source in it.
func (t text) empty() bool {
	return !slices.ContainsFunc(t, func(p piece) bool { return strings.ContainsFunc(p.words, unicode.IsLower) })
}

// telling is how many words of the source are in it.
func (t text) telling() (n int) {
	for _, p := range t {
		n += len(strings.FieldsFunc(p.words, func(r rune) bool { return !unicode.IsLower(r) }))
	}
	return n
}

// wraps: it ends with another error.
func (t text) wraps() bool {
	return len(t) > 0 && t[len(t)-1].name == errName && t[len(t)-1].param == 0
}

// errName stands for the message of another error.
const errName = "ERR"

func (t text) String() string {
	var b strings.Builder
	for _, p := range t {
		if p.name != "" {
			b.WriteString(p.name)
		} else {
			b.WriteString(p.words)
		}
	}
	// What is put in may be empty, as the thing of a failure.Error.
	return strings.TrimLeft(strings.Join(strings.Fields(b.String()), " "), ": ")
}

// placeholder is a name of the source in capitals, its words apart: "maxMap" is MAX-MAP.
func placeholder(name string) string {
	if name == "err" || strings.HasSuffix(name, "Err") {
		return errName
	}
	var b strings.Builder
	lower := false
	for _, r := range name {
		if unicode.IsUpper(r) && lower {
			b.WriteByte('-')
		}
		lower = unicode.IsLower(r)
		b.WriteRune(unicode.ToUpper(r))
	}
	return b.String()
}

// nameless stands for what has no name in the source.
const nameless = "…"

// verbs takes a format apart at its verbs, and puts args in; where there are no more,
// as the format of a function with args ...any, what is put in is nameless.
func verbs(format string, args []text) text {
	var t text
	n := 0
	for {
		before, after, ok := strings.Cut(format, "%")
		if before != "" {
			t = append(t, piece{words: before})
		}
		if !ok {
			return t
		}
		i := strings.IndexFunc(after, func(r rune) bool { return unicode.IsLetter(r) || r == '%' })
		if i < 0 {
			return t
		}
		verb := after[i]
		format = after[i+1:]
		if verb == '%' {
			t = append(t, piece{words: "%"})
			continue
		}
		arg := text{{name: nameless}}
		if n < len(args) {
			arg = args[n]
		} else if verb == 'w' {
			arg = text{{name: errName}}
		}
		n++
		switch {
		case verb == 'w' && !arg.open():
			arg = text{{name: errName}}
		case verb == 'q':
			arg = slices.Concat(words(`"`), arg, words(`"`))
		}
		t = append(t, arg...)
	}
}
