package main

import (
	"fmt"
	"slices"
	"strings"

	"ckpt/image"
)

// compression is the value of --compress.
type compression image.Level

var levels = []string{"", "fastest", "default", "better", "best"}

// isCompression: the word is a level.
func isCompression(s string) bool { return slices.Contains(levels[1:], s) }

func (c *compression) String() string { return levels[*c] }

func (c *compression) Type() string { return "LEVEL" }

func (c *compression) Set(s string) error {
	i := slices.Index(levels, s)
	if i <= 0 {
		return fmt.Errorf("there is no level %q: it is one of %s", s, strings.Join(levels[1:], ", "))
	}
	*c = compression(i)
	return nil
}
