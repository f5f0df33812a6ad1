package inotify

import (
	"strings"
	"testing"
)

// FuzzParse: whatever a line of fdinfo says, never a panic.
func FuzzParse(f *testing.F) {
	f.Add("inotify wd:3 ino:9e7e sdev:800013 mask:800afce ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:7e9e0000640d1b6d")
	f.Fuzz(func(t *testing.T, s string) { _, _ = parse(strings.Split(s, "\n")) })
}
