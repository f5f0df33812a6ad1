package procfs

import (
	"bytes"
	"fmt"
)

// The kernel's text is plain ASCII; these read it without converting every
// field to a string first.

// next cuts the first blank-separated word off b; word is empty at the end.
func next(b []byte) (word, rest []byte) {
	i := 0
	for i < len(b) && (b[i] == ' ' || b[i] == '\t') {
		i++
	}
	j := i
	for j < len(b) && b[j] != ' ' && b[j] != '\t' && b[j] != '\n' {
		j++
	}
	return b[i:j], b[j:]
}

// line cuts the first line off b, without its newline.
func line(b []byte) (first, rest []byte) {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return b[:i], b[i+1:]
	}
	return b, nil
}

// uintOf reads an unsigned number of the given base (8, 10 or 16) that fills b.
func uintOf(b []byte, base uint64) (uint64, error) {
	if len(b) == 0 {
		return 0, fmt.Errorf("a number is missing")
	}
	var v uint64
	for _, c := range b {
		var d uint64
		switch {
		case c >= '0' && c <= '9':
			d = uint64(c - '0')
		case c >= 'a' && c <= 'f':
			d = uint64(c-'a') + 10
		case c >= 'A' && c <= 'F':
			d = uint64(c-'A') + 10
		default:
			return 0, fmt.Errorf("%q is no number", b)
		}
		if d >= base {
			return 0, fmt.Errorf("%q is no number", b)
		}
		n := v*base + d
		if v > (1<<64-1)/base || n < v*base {
			return 0, fmt.Errorf("%q is too large", b)
		}
		v = n
	}
	return v, nil
}

// intOf reads a decimal number that fills b and may be negative.
func intOf(b []byte) (int64, error) {
	neg := len(b) > 0 && b[0] == '-'
	if neg {
		b = b[1:]
	}
	v, err := uintOf(b, 10)
	if err != nil {
		return 0, err
	}
	switch {
	case neg && v <= 1<<63:
		return -int64(v), nil
	case neg || v >= 1<<63:
		return 0, fmt.Errorf("%q is too large", b)
	}
	return int64(v), nil
}

// ints reads every blank-separated number of b.
func ints(b []byte) ([]int, error) {
	var out []int
	for {
		var w []byte
		if w, b = next(b); len(w) == 0 {
			return out, nil
		}
		v, err := intOf(w)
		if err != nil {
			return nil, err
		}
		out = append(out, int(v))
	}
}

// unescape undoes the kernel's octal escapes (\040, \012; mangle_path()).
func unescape(b []byte) string {
	if bytes.IndexByte(b, '\\') < 0 {
		return string(b)
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] == '\\' && i+3 < len(b) && isOctal(b[i+1]) && isOctal(b[i+2]) && isOctal(b[i+3]) {
			out = append(out, (b[i+1]-'0')<<6|(b[i+2]-'0')<<3|(b[i+3]-'0'))
			i += 3
			continue
		}
		out = append(out, b[i])
	}
	return string(out)
}

func isOctal(c byte) bool { return c >= '0' && c <= '7' }
