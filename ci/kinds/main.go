// Kinds writes docs/kinds.md, the table of all kinds, to standard output.
package main

import (
	"fmt"
	"os"
	"strings"

	"ckpt/kind/all"
)

const head = `<!-- Generated from kind/*: make generate -->

# What is kept, what is not

Every kind of kernel object that ckpt knows, as ` + "`ckpt check --kinds`" + ` tells it. A
dump that meets what is refused leaves everything as it was, and says in which
process it was met and what can be done; ` + "`ckpt check NAME`" + ` says so beforehand.
The package of each kind below kind/ tells more. What is refused of whole
processes (one under a debugger, a namespace of its own) stands in the
[README](../README.md), what becomes of every id in
[pid-boundaries.md](pid-boundaries.md).
`

func main() {
	var b strings.Builder
	b.WriteString(head)
	of := ""
	for _, k := range all.New().Told() {
		if k.Of != of {
			of = k.Of
			fmt.Fprintf(&b, "\n## Of a %s\n\n| kind | kept | refused | lost | needs |\n|---|---|---|---|---|\n", of)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", k.Name, k.Saves, k.Refuses, k.Limits, k.Needs)
	}
	if _, err := os.Stdout.WriteString(b.String()); err != nil {
		fmt.Fprintln(os.Stderr, "kinds:", err)
		os.Exit(1)
	}
}
