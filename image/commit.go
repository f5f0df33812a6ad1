package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
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
	if err := w.writeManifest(manifest); err != nil {
		return err
	}
	if err := w.sync(manifest.Levels); err != nil {
		return err
	}
	if err := w.place.finish(); err != nil {
		return err
	}
	w.done = true
	w.close()
	return nil
}

// finishFiles writes and closes every file and returns the sums, by name.
func (w *Writer) finishFiles() ([]*FileSum, error) {
	var out []*FileSum
	for name, l := range w.lists {
		if err := w.flush(name, l); err != nil {
			return nil, err
		}
		if err := l.file.Close(); err != nil {
			return nil, writeError(name, err)
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
		_ = f.Close()
		s, err := w.rawSize(name)
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
	err := sumParts(context.Background(), w.openRaw, parts, func(p part, sum uint32, err error) {
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

func (w *Writer) openRaw(name string) (*os.File, error) {
	fd, err := unix.Openat(int(w.dir.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (w *Writer) rawSize(name string) (*FileSum, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(int(w.dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, fmt.Errorf("stat %s: %w", name, err)
	}
	return &FileSum{Name: name, Size: uint64(st.Size), Crc32C: make([]uint32, chunks(uint64(st.Size)))}, nil
}

// startWriteback asks the kernel to begin writing (sync_file_range(2)): the
// disk works while the sums are made. Failures show in sync.
func (w *Writer) startWriteback(files []*FileSum) {
	for _, s := range files {
		if s.Size < chunk {
			continue
		}
		if f, err := w.openRaw(s.Name); err == nil {
			_ = unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
			_ = f.Close()
		}
	}
}

func (w *Writer) writeManifest(m *Manifest) error {
	name := manifestFormat.Name("")
	b, err := AppendEntry(manifestFormat.header(), m)
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	b, err = AppendEntry(b, &Seal{Crc32C: crc32.Checksum(b, castagnoli)})
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	f, err := w.open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	w.stored += uint64(len(b))
	if _, err := f.Write(b); err != nil {
		return writeError(name, err)
	}
	return nil
}

// sync makes all files and their directory durable: by one syncfs(2), since
// an fsync each costs a commit of the journal each.
func (w *Writer) sync(levels uint32) error {
	fd := int(w.dir.Fd())
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return fmt.Errorf("statfs %s: %w", w.dir.Name(), err)
	}
	switch uint32(st.Type) {
	case unix.FUSE_SUPER_MAGIC, unix.NFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.V9FS_MAGIC:
		// syncfs(2) does not reach the server there.
		if err := w.syncEach(levels); err != nil {
			return err
		}
	default:
		if err := unix.Syncfs(fd); err != nil {
			return writeError("the image to disk", err)
		}
	}
	if err := unix.Fsync(fd); err != nil && !errors.Is(err, unix.EINVAL) {
		return writeError(w.dir.Name(), err)
	}
	return nil
}

func (w *Writer) syncEach(levels uint32) error {
	names := []string{manifestFormat.Name("")}
	names = slices.AppendSeq(names, maps.Keys(w.lists))
	names = slices.AppendSeq(names, maps.Keys(w.raw))
	for _, name := range names {
		f, err := w.openRaw(name)
		if err != nil {
			return err
		}
		err = f.Sync()
		_ = f.Close()
		if err != nil {
			return writeError(name, err)
		}
	}
	for level := range int(levels) {
		d, err := w.openRaw(levelDir(level + 1))
		if err != nil {
			return err
		}
		err = d.Sync()
		_ = d.Close()
		if err != nil {
			return writeError(d.Name(), err)
		}
	}
	return nil
}
