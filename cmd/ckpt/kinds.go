package main

import (
	"fmt"
	"strings"

	"ckpt/kind/all"
)

// checkKinds tells of every kind of kernel object what ckpt does with it.
func checkKinds(a *app, asJSON bool) error {
	kinds := all.New().Told()
	if asJSON {
		return a.printJSON(kinds)
	}
	_, err := fmt.Fprint(a.out, kindsText(kinds))
	return err
}

// kindsText gives a paragraph a kind: its sentences are too long for a line of
// a table.
func kindsText(kinds []all.Told) string {
	var b strings.Builder
	for i, k := range kinds {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "%s (%s)\n", k.Name, k.Of)
		for _, line := range []struct{ what, text string }{
			{"kept", k.Saves}, {"refused", k.Refuses}, {"lost", k.Limits}, {"needs", k.Needs},
		} {
			if line.text != "" {
				fmt.Fprintf(&b, "  %-9s%s\n", line.what+":", wrap(line.text, columns-movedIn, movedIn))
			}
		}
	}
	return b.String()
}

// Columns of a line, and how far the text of a kind is moved in.
const columns, movedIn = 80, 11

// wrap breaks text at spaces into lines of n columns, where words allow; the
// second and following ones are moved in.
func wrap(text string, n, in int) string {
	var b strings.Builder
	at := 0
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
		case at+1+len(word) > n:
			b.WriteString("\n" + strings.Repeat(" ", in))
			at = 0
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += len(word)
	}
	return b.String()
}
