package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Commit writes what is left and then the manifest, whose Format and Sums it
// sets, makes all of it durable and gives DIR its name. After an error the
// caller calls Abort.
func (w *Writer) Commit(manifest *Manifest) error {
	w.mu.Lock()
	pages := slices.Collect(maps.Values(w.pages))
	w.mu.Unlock()
	levels := 0
	for _, p := range pages {
		if err := p.Close(); err != nil {
			return err
		}
		levels = max(levels, len(p.refs))
	}
	for level := range levels + 1 {
		if err := w.addLevel(level, pages); err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done {
		return errors.New("the image is finished already")
	}
	sums, err := w.finishFiles()
	if err != nil {
		return err
	}
	for _, s := range sums {
		w.stored += s.Size
	}
	manifest.Format, manifest.Sums, manifest.Levels = Version, sums, uint32(levels)
	if err := w.linkParent(manifest); err != nil {
		return err
	}
	if err := w.putManifest(manifest); err != nil {
		return err
	}
	var names []string
	for _, s := range sums {
		names = append(names, s.Name)
	}
	if err := w.to.finish(append(names, manifestFormat.Name(""))); err != nil {
		return err
	}
	w.done = true
	w.to.close()
	return nil
}

// finishFiles writes and closes every file and returns the sums, by name.
func (w *Writer) finishFiles() ([]*FileSum, error) {
	var out []*FileSum
	for name, l := range w.lists {
		if err := w.end(name, l); err != nil {
			return nil, err
		}
		out = append(out, &FileSum{Name: name, Size: l.sum.size, Crc32C: l.sum.sums()})
	}
	raw, err := w.sumRaw()
	if err != nil {
		return nil, err
	}
	out = append(out, raw...)
	slices.SortFunc(out, func(a, b *FileSum) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

// sumRaw sums the files that others wrote, by reading them back (from the
// page cache as a rule) while the kernel already writes them to disk.
func (w *Writer) sumRaw() ([]*FileSum, error) {
	var out []*FileSum
	var parts []part
	byName := map[string]*FileSum{}
	for name, f := range w.raw {
		if err := w.to.ended(f); err != nil {
			return nil, err
		}
		s, err := w.sizeOf(name)
		if err != nil {
			return nil, err
		}
		out, byName[name] = append(out, s), s
		parts = append(parts, partsOf(name, s.Size)...)
	}
	for _, p := range w.pages {
		name := pagesName(p.num)
		if s := byName[name]; w.compression == nil && s.Size != p.pages*PageSize {
			return nil, fmt.Errorf("%s has %d bytes, its pagemap tells of %d", name, s.Size, p.pages*PageSize)
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { w.startWriteback(out) })
	defer wg.Wait()
	var mu sync.Mutex
	var failed error
	err := sumParts(context.Background(), w.to.reopen, parts, func(p part, sum uint32, err error) {
		if err != nil {
			mu.Lock()
			failed = err
			mu.Unlock()
			return
		}
		byName[p.name].Crc32C[p.index] = sum
	})
	return out, cmp.Or(err, failed)
}

// sizeOf makes the entry for a file, its sums yet to come.
func (w *Writer) sizeOf(name string) (*FileSum, error) {
	f, err := w.to.reopen(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return &FileSum{Name: name, Size: uint64(f.size), Crc32C: make([]uint32, chunks(uint64(f.size)))}, nil
}

// startWriteback asks the kernel to begin writing (sync_file_range(2)): the
// disk works while the sums are made. Failures show in the end.
func (w *Writer) startWriteback(files []*FileSum) {
	for _, s := range files {
		if s.Size < chunk {
			continue
		}
		if f, err := w.to.reopen(s.Name); err == nil {
			_ = unix.SyncFileRange(int(f.file.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
			_ = f.Close()
		}
	}
}

func (w *Writer) putManifest(m *Manifest) error {
	name := manifestFormat.Name("")
	b, err := AppendEntry(manifestFormat.header(), m)
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	b, err = AppendEntry(b, &Seal{Crc32C: crc32.Checksum(b, castagnoli)})
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	w.stored += uint64(len(b))
	return w.to.put(name, b)
}
