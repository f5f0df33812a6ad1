package adopt

import "strings"

func lines(s string) []string { return strings.Split(s, "\n") }

// fields are the first n words of a line, with one blank between.
func fields(s string, line, n int) string {
	f := strings.Fields(lines(s)[line])
	return strings.Join(f[:min(n, len(f))], " ")
}
