package image

import (
	"cmp"
	"crypto/sha256"
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
func (w *Writer) Commit(manifest *Manifest) error { return w.CommitIf(manifest, nil) }

// CommitIf is Commit for an image that is to be only if confirm, which is called when
// DIR has its name, gives no error. nil: it always is.
func (w *Writer) CommitIf(manifest *Manifest, confirm func() error) error {
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
	if w.signKey != nil {
		names = append(names, signatureFormat.Name(""))
	}
	if err := w.to.finish(append(names, w.storedName(manifestFormat.Name(""))), w.stored, w.progress); err != nil {
		return err
	}
	if confirm != nil {
		if err := confirm(); err != nil {
			return errors.Join(err, w.to.retract())
		}
	}
	w.done = true
	w.to.close()
	return nil
}

// finishFiles writes and closes every file and returns the sums, by name.
func (w *Writer) finishFiles() ([]*FileSum, error) {
	var out []*FileSum
	for name, l := range w.lists {
		s, err := w.end(name, l)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
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
	for _, f := range w.raw {
		if err := f.Close(); err != nil {
			return nil, err
		}
		if f.sum != nil {
			out = append(out, f.sum.of(f.name))
			continue
		}
		s, err := w.sizeOf(f.name)
		if err != nil {
			return nil, err
		}
		out, byName[f.name] = append(out, s), s
		parts = append(parts, partsOf(f.name, s.Size)...)
	}
	for _, p := range w.pages {
		if s := byName[p.file.name]; p.out == p.file && p.file.sealed == nil && s.Size != p.pages*PageSize {
			return nil, fmt.Errorf("%s has %d bytes, its pagemap tells of %d", s.Name, s.Size, p.pages*PageSize)
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { w.startWriteback(out) })
	defer wg.Wait()
	var mu sync.Mutex
	var failed error
	phase := w.progress.Begin(PhaseChecksums, totalOf(parts))
	err := sumParts(w.ctx, w.to.reopen, parts, w.signKey != nil, phase, func(p part, sum *FileSum, err error) {
		if err != nil {
			mu.Lock()
			failed = err
			mu.Unlock()
			return
		}
		s := byName[p.name]
		s.Crc32C[p.index] = sum.Crc32C[0]
		if w.signKey != nil {
			s.Sha256[p.index] = sum.Sha256[0]
		}
	})
	if err = cmp.Or(err, failed); err != nil {
		return nil, err
	}
	phase.End()
	return out, nil
}

// sizeOf makes the entry for a file, its sums yet to come.
func (w *Writer) sizeOf(name string) (*FileSum, error) {
	f, err := w.to.reopen(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s := &FileSum{Name: name, Size: uint64(f.size), Crc32C: make([]uint32, chunks(uint64(f.size)))}
	if w.signKey != nil {
		s.Sha256 = make([][]byte, len(s.Crc32C))
	}
	return s, nil
}

// writeback is how much the kernel is asked to write at a time, in bytes.
const writeback = 32 << 20

// startWriteback asks the kernel to begin writing (sync_file_range(2)): the
// disk works while the sums are made. Failures show in the end.
func (w *Writer) startWriteback(files []*FileSum) {
	for _, s := range files {
		if s.Size < chunk {
			continue
		}
		f, err := w.to.reopen(s.Name)
		if err != nil {
			continue
		}
		// In pieces: the call waits where the disk's queue is full.
		for at := int64(0); at < f.size && w.ctx.Err() == nil; at += writeback {
			_ = unix.SyncFileRange(int(f.file.Fd()), at, writeback, unix.SYNC_FILE_RANGE_WRITE)
		}
		_ = f.Close()
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
	b, err = w.seal(name, b)
	if err != nil {
		return err
	}
	w.stored += uint64(len(b))
	if err := w.to.put(w.storedName(name), b); err != nil || w.signKey == nil {
		return err
	}
	return w.sign(sha256.Sum256(b))
}
