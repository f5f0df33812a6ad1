package core

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/regfile"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

// TestMappedFile: what is not the file that was mapped is not read.
func TestMappedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lib.so")
	if err := os.WriteFile(path, []byte("\x7fELF and more"), 0o600); err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	size, mtime := proto.Uint64(13), fi.ModTime().UnixNano()
	for _, tt := range []struct {
		name  string
		size  *uint64
		mtime int64
		want  string // why not; "": it is read
	}{
		{path, size, mtime, ""},
		{path, size, 0, ""}, // criu notes no time
		{path, nil, 0, ""},
		{path, proto.Uint64(12), mtime, "it has changed since"},
		{path, size, mtime - 1, "it has changed since"},
		{path + "x", size, mtime, "no such file or directory"},
		{fifo, nil, 0, "it is no regular file"},
		{"/dev/null", nil, 0, "it is no regular file"},
		{"/", nil, 0, "it is no regular file"},
	} {
		f := &mappedFile{}
		err := f.open(&regfile.RegFileEntry{Name: &tt.name, Size: tt.size}, tt.mtime)
		switch {
		case tt.want == "" && (err != nil || !f.isELF() || f.size != 13):
			t.Errorf("%s: %v", tt.name, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || f.there()):
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
		f.close()
	}
}
