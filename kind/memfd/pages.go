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
	defer w.File.Close()
	for at := int64(0); at < size; {
		from, to, err := nextData(f, at, size, huge)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		pages := uint64(to-from+image.PageSize-1) / image.PageSize
		off := w.Run(uint64(from), pages, image.PEPresent)
		if err := copyTo(w.File, off, f, from, int64(pages)*image.PageSize); err != nil {
			return err
		}
		at = to
	}
	return nil
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

// copyTo copies n bytes; those behind the end of in are zero.
func copyTo(out *os.File, off int64, in *os.File, from, n int64) error {
	buf := make([]byte, min(n, bufSize))
	for n > 0 {
		b := buf[:min(n, bufSize)]
		k, err := in.ReadAt(b, from)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read its contents: %w", err)
		}
		clear(b[k:])
		if _, err := out.WriteAt(b, off); err != nil {
			return fmt.Errorf("write its contents: %w", err)
		}
		off, from, n = off+int64(len(b)), from+int64(len(b)), n-int64(len(b))
	}
	return nil
}

// loadPages fills the new file f, which has its size already.
func loadPages(in *image.Reader, f *os.File, size int64, shmid uint32) error {
	runs, pages, err := image.PageRuns(in, pagesID(shmid))
	if err != nil {
		return err
	}
	if pages != nil {
		defer pages.Close()
	}
	huge, err := hugePage(f)
	if err != nil {
		return err
	}
	for _, r := range runs {
		if r.Flags&image.PEPresent == 0 {
			return failure.Unsupportedf("contents of a memfd in a parent image are not read")
		}
		from := int64(r.Vaddr)
		n := min(int64(r.Pages)*image.PageSize, size-from)
		if from < 0 || n <= 0 {
			return failure.Damagedf("pages at %d of a memfd of %d bytes", from, size)
		}
		if huge != 0 {
			err = fillMapped(f, from, pages, r.Offset, n, int64(huge))
		} else {
			err = copyTo(f, from, pages, r.Offset, n)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// fillMapped is copyTo for files in huge pages, which have no write(2). Pages
// of zeros are left out: the image could not tell them from holes.
func fillMapped(f *os.File, to int64, in *os.File, from, n, huge int64) error {
	if to%huge != 0 || n%huge != 0 {
		return failure.Damagedf("pages at %d to %d of a file with pages of %d bytes", to, to+n, huge)
	}
	buf := make([]byte, huge)
	for end := to + n; to < end; to, from = to+huge, from+huge {
		if _, err := in.ReadAt(buf, from); err != nil {
			return fmt.Errorf("read its contents: %w", err)
		}
		if zero(buf) {
			continue
		}
		m, err := unix.Mmap(int(f.Fd()), to, int(huge), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
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
