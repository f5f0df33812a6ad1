package main

import (
	"path/filepath"
	"testing"
)

// FuzzMoves: what --map accepts are two clean absolute paths.
func FuzzMoves(f *testing.F) {
	for _, s := range []string{"/a=/b", "=", "/a=", "a=b", "/a/../b=/c//d", "/a=/b=/c", "/=/", "\x00=/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, v string) {
		moves, err := parseMoves("restore", []string{v, v})
		if err != nil {
			return
		}
		for old, now := range moves {
			for _, p := range []string{old, now} {
				if !filepath.IsAbs(p) || filepath.Clean(p) != p {
					t.Errorf("%q: %q", v, p)
				}
			}
		}
	})
}

// FuzzExternals: never a panic.
func FuzzExternals(f *testing.F) {
	for _, s := range []string{"unix:/a", "unix:", "unix:@a", ":", "tcp:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, v string) { _, _ = parseExternals("dump", []string{v}) })
}
