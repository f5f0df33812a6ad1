package memfd

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
)

// bufSize is how much is copied at a time, in bytes.
const bufSize = 1 << 20

// pagesID is the id of the pagemap of shared memory shmid.
func pagesID(shmid uint32) string { return fmt.Sprintf("shmem-%d", shmid) }

// hugePage is the size of the file's huge pages in bytes; 0: it has none.
func hugePage(f *os.File) (uint64, error) {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil {
		return 0, fmt.Errorf("find its page size: %w", err)
	}
	if int64(fs.Type) != unix.HUGETLBFS_MAGIC {
		return 0, nil
	}
	return uint64(fs.Bsize), nil
}

// savePages writes the contents of f without its holes. Addresses in the
// pagemap are offsets in the file.
func savePages(out *image.Writer, f *os.File, size int64, shmid uint32, huge uint64) error {
	if size == 0 {
		return nil
	}
	w, err := out.Pages(pagesID(shmid))
	if err != nil {
		return err
	}
	for at := int64(0); at < size; {
		from, to, err := nextData(f, at, size, huge)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		pages := uint64(to-from+image.PageSize-1) / image.PageSize
		if err := copyOut(w, f, from, int64(pages)*image.PageSize); err != nil {
			return err
		}
		at = to
	}
	return w.Close()
}

// nextData finds data from at on: offsets of pages, to at most size; io.EOF
// when only a hole is left. In huge pages SEEK_DATA does not tell holes
// (hugetlbfs has no llseek of its own), so there everything is data.
func nextData(f *os.File, at, size int64, huge uint64) (from, to int64, err error) {
	if huge != 0 {
		return at, size, nil
	}
	from, err = unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return 0, 0, io.EOF
	}
	if err != nil {
		return 0, 0, fmt.Errorf("find data (SEEK_DATA): %w", err)
	}
	if to, err = unix.Seek(int(f.Fd()), from, unix.SEEK_HOLE); err != nil {
		return 0, 0, fmt.Errorf("find a hole (SEEK_HOLE): %w", err)
	}
	return from &^ (image.PageSize - 1), min(to, size), nil
}

// copyOut saves n bytes, whole pages; those behind the end of in are zero.
func copyOut(out *image.PagesWriter, in *os.File, from, n int64) error {
	buf := make([]byte, min(n, bufSize))
	for n > 0 {
		b := buf[:min(n, bufSize)]
		k, err := in.ReadAt(b, from)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read its contents: %w", err)
		}
		clear(b[k:])
		if err := out.Write(uint64(from), b); err != nil {
			return err
		}
		from, n = from+int64(len(b)), n-int64(len(b))
	}
	return nil
}

// loadPages fills the new file f, which has its size already.
func loadPages(in *image.Reader, f *os.File, size int64, shmid uint32) error {
	pages, err := image.PageRuns(in, pagesID(shmid))
	if err != nil {
		return err
	}
	defer pages.Close()
	huge, err := hugePage(f)
	if err != nil {
		return err
	}
	for _, r := range pages.Runs {
		if r.Vaddr >= uint64(size) {
			return failure.Damagedf("pages at %d of a memfd of %d bytes", r.Vaddr, size)
		}
		n := min(r.End(), uint64(size)) - r.Vaddr
		if huge != 0 {
			err = fillMapped(f, r, n, uint64(huge))
		} else {
			err = copyIn(f, r, n)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// copyIn writes the first n bytes of r to f.
func copyIn(f *os.File, r image.Run, n uint64) error {
	buf := make([]byte, min(n, bufSize))
	for done := uint64(0); done < n; done += uint64(len(buf)) {
		buf = buf[:min(n-done, bufSize)]
		if err := r.Read(r.Vaddr+done, buf); err != nil {
			return err
		}
		if _, err := f.WriteAt(buf, int64(r.Vaddr+done)); err != nil {
			return fmt.Errorf("write its contents: %w", err)
		}
	}
	return nil
}

// fillMapped is copyIn for files in huge pages, which have no write(2). Pages
// of zeros are left out: the image could not tell them from holes.
func fillMapped(f *os.File, r image.Run, n, huge uint64) error {
	if r.Vaddr%huge != 0 || n%huge != 0 {
		return failure.Damagedf("pages at %d to %d of a file with pages of %d bytes", r.Vaddr, r.Vaddr+n, huge)
	}
	buf := make([]byte, huge)
	for at := r.Vaddr; at < r.Vaddr+n; at += huge {
		if err := r.Read(at, buf); err != nil {
			return err
		}
		if zero(buf) {
			continue
		}
		m, err := unix.Mmap(int(f.Fd()), int64(at), int(huge), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return failure.WithHint(fmt.Errorf("take a huge page of %d bytes: %w", huge, err), "give this machine more huge pages (vm.nr_hugepages)")
		}
		copy(m, buf)
		if err := unix.Munmap(m); err != nil {
			return fmt.Errorf("unmap its contents: %w", err)
		}
	}
	return nil
}

func zero(b []byte) bool {
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}
