package failure

import "strings"

// Quote gives a word as a shell has to be told it, for hints that are
// commands: as it is where that is plain, else in single quotes.
func Quote(word string) string {
	if word != "" && !strings.ContainsFunc(word, special) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// special tells whether a shell, or a person, might take r for something
// else than a part of a word.
func special(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r > 0x7f:
		return false
	}
	return !strings.ContainsRune("%+,-./:=@_", r)
}
