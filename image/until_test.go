package image

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/inventory"
)

// TestWritingEnds: once the context has ended, nothing more is written, also of pages
// that the parent has, and there is no image.
func TestWritingEnds(t *testing.T) {
	parent := filepath.Join(t.TempDir(), "parent")
	sample(t, parent)
	for name, o := range map[string]Options{"plain": {}, "compressed": {Compress: Fastest}, "incremental": {Parent: open(t, parent)}} {
		dir := filepath.Join(t.TempDir(), "image")
		ctx, cancel := context.WithCancel(t.Context())
		o.Context = ctx
		w, err := Create(dir, o)
		check(t, err)
		p, err := w.Pages("2")
		check(t, err)
		check(t, p.Write(0x1000, make([]byte, 2*PageSize)))
		f, err := w.File("raw.img")
		check(t, err)
		cancel()
		if err := p.Write(0x3000, make([]byte, 2*PageSize)); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: pages: %v", name, err)
		}
		if _, err := f.Write([]byte("x")); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: a file: %v", name, err)
		}
		if err := w.Commit(&Manifest{}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: commit: %v", name, err)
		}
		check(t, w.Abort())
		if _, err := Open(dir); err == nil {
			t.Errorf("%s: there is an image", name)
		}
	}
}

// TestReadingEnds: what is open fails, and what is opened.
func TestReadingEnds(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "image")
	sample(t, dir)
	r := open(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	r.Until(ctx)
	c, err := r.Contents("2")
	check(t, err)
	defer c.Close()
	at := int64(c.Runs[0].Vaddr)
	if _, err := c.ReadAt(make([]byte, 1), at); err != nil {
		t.Fatal(err)
	}
	other, err := r.Contents("2")
	check(t, err)
	defer other.Close()
	cancel()
	if _, err := other.ReadAt(make([]byte, 1), at); !errors.Is(err, context.Canceled) {
		t.Errorf("memory: %v", err)
	}
	if _, err := One[*inventory.InventoryEntry](r, Inventory, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("an entry: %v", err)
	}
}
