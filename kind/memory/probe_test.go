package memory

import "testing"

func TestBreakpointIn(t *testing.T) {
	code := "one" + breakpoint + "two three"
	for name, c := range map[string]struct {
		is   string
		want int
	}{
		"as in the file":       {code, -1},
		"set":                  {"one" + breakpoint + "two " + breakpoint + "three"[len(breakpoint):], len("one"+breakpoint) + 4},
		"set at the beginning": {breakpoint + code[len(breakpoint):], 0},
		"set at the end":       {code[:len(code)-len(breakpoint)] + breakpoint, len(code) - len(breakpoint)},
		"rewritten around it":  {"one" + breakpoint + "two" + "X" + breakpoint + "hree"[len(breakpoint):] + "Y", -1},
		"shorter":              {"", -1},
	} {
		if got := breakpointIn([]byte(c.is), []byte(code)[:len(c.is)]); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}
