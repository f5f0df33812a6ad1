package fanotify

import (
	"strings"
	"testing"
)

// FuzzParse: whatever a line of fdinfo says, never a panic.
func FuzzParse(f *testing.F) {
	f.Add("fanotify flags:10 event-flags:0\nfanotify mnt_id:12 mflags:40 mask:38 ignored_mask:40000003\nfanotify ino:4f969 sdev:800013 mflags:0 mask:3b ignored_mask:40000000 fhandle-bytes:8 fhandle-type:1 f_handle:69f90400c275b5b4")
	f.Fuzz(func(t *testing.T, s string) { _, _ = parse(strings.Split(s, "\n")) })
}
