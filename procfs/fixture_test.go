package procfs

import (
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// fixture gives a file of testdata/proc.txtar.
func fixture(t testing.TB, name string) []byte {
	t.Helper()
	a, err := txtar.ParseFile("testdata/proc.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range a.Files {
		if f.Name == name {
			return f.Data
		}
	}
	t.Fatalf("no fixture %q", name)
	return nil
}
