package image

import (
	"path/filepath"
	"testing"
)

// What is to be written for each process is, even if it is the same.
func TestAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "img")
	w := create(t, dir)
	page := make([]byte, PageSize)
	page[0] = 1
	for _, id := range []string{"2", "3", "4"} {
		p, err := w.Pages(id)
		check(t, err)
		if id != "2" {
			p.Alone(0x10000, 0x11000)
		}
		check(t, p.Write(0x10000, page))
		if id == "4" {
			p.Alone(0, 0)
		}
		check(t, p.Write(0x11000, page))
	}
	if a := w.Amounts(); a.Written != 4*PageSize || a.Same != 2*PageSize {
		t.Errorf("%+v", a)
	}
	check(t, w.Abort())
}
