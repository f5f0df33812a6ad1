package image

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"ckpt/failure"
)

// stream is a target that goes out in one go, as tar(5) has a directory, when all of
// it is there: the format needs sizes in front of contents. Until then it is kept in files without a name, which
// are gone when ckpt is.
type stream struct {
	ctx   context.Context
	out   io.Writer
	spool string // directory where those files are
	files map[string]*os.File
	small map[string][]byte
	dirs  []string
	links [][2]string // to, name
}

// CreateStream starts an image that is written to out as a stream. It takes as much
// room in the directory spool as the image has. Commit writes it; it ends when
// o.Context does, though it may wait for a reader.
func CreateStream(out io.Writer, spool string, o Options) (*Writer, error) {
	return newWriter(&stream{ctx: o.context(), out: out, spool: spool, files: map[string]*os.File{}, small: map[string][]byte{}}, o)
}

func (s *stream) create(name string) (*os.File, error) {
	f, err := unnamed(s.spool)
	if err != nil {
		return nil, err
	}
	s.files[name] = f
	return f, nil
}

// unnamed makes a file without a name in a directory.
func unnamed(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return os.NewFile(uintptr(fd), dir), nil
	}
	var f *os.File
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) { // the file system has no such files
		if f, err = os.CreateTemp(dir, "ckpt-"); err == nil {
			if err = os.Remove(f.Name()); err == nil {
				return f, nil
			}
			_ = f.Close()
		}
	}
	return nil, failure.WithHint(fmt.Errorf("keep the stream in %s: %w", dir, err), "name another directory for it: TMPDIR=DIR ckpt ...")
}

func (s *stream) where() string { return s.spool }

func (s *stream) ended(*os.File) error { return nil }

func (s *stream) put(name string, b []byte) error {
	s.small[name] = b
	return nil
}

func (s *stream) reopen(name string) (*stored, error) {
	f := s.files[name]
	if f == nil {
		return nil, fmt.Errorf("open %s: %w", name, os.ErrNotExist)
	}
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("stat %s: %w", name, err)
	}
	return &stored{file: f, size: st.Size(), shared: true}, nil
}

func (s *stream) mkdir(name string) error {
	s.dirs = append(s.dirs, name)
	return nil
}

func (s *stream) link(to, name string) error {
	s.links = append(s.links, [2]string{to, name})
	return nil
}

func (s *stream) pathOfParent(*Reader) (string, error) {
	return "", failure.WithHint(failure.Mark(failure.ErrUsage, errors.New("a stream cannot have a parent image, for whoever reads it may not have that")),
		"leave out --parent, or write the image into a directory")
}

// finish writes all. It does not wait for a reader that does not read, once ctx has
// ended.
func (s *stream) finish(names []string, size uint64, progress *Progress) error {
	done := make(chan error, 1)
	phase := progress.Begin(PhaseStream, size)
	go func() { done <- s.write(names, phase) }()
	select {
	case err := <-done:
		if err == nil {
			phase.End()
		}
		return err
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

func (s *stream) write(names []string, phase *Phase) error {
	t := tar.NewWriter(phase.Writer(s.out))
	now := time.Now().Truncate(time.Second)
	for _, d := range s.dirs {
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: d + "/", Mode: 0o700, ModTime: now}); err != nil {
			return s.failed(err)
		}
	}
	for _, l := range s.links {
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: l[1], Linkname: l[0], Mode: 0o777, ModTime: now}); err != nil {
			return s.failed(err)
		}
	}
	buf := make([]byte, 1<<20)
	for _, name := range names {
		size := int64(len(s.small[name]))
		var from *stored
		if s.files[name] != nil {
			var err error
			if from, err = s.reopen(name); err != nil {
				return err
			}
			size = from.size
		}
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, ModTime: now}); err != nil {
			return s.failed(err)
		}
		if from == nil {
			if _, err := t.Write(s.small[name]); err != nil {
				return s.failed(err)
			}
		} else if _, err := io.CopyBuffer(t, io.NewSectionReader(from, 0, size), buf); err != nil {
			return s.failed(err)
		}
	}
	if err := t.Close(); err != nil {
		return s.failed(err)
	}
	if f, ok := s.out.(*os.File); ok {
		if err := f.Sync(); err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: a pipe, a socket
			return s.failed(err)
		}
	}
	return nil
}

func (s *stream) failed(err error) error {
	err = fmt.Errorf("write the stream: %w", failure.WithoutPath(err))
	if errors.Is(err, unix.EPIPE) {
		return failure.WithHint(err, "whoever was to read it has ended: look at what it says")
	}
	if f, ok := s.out.(*os.File); ok {
		if to, lerr := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd())); lerr == nil {
			return failure.OnDisk(err, to)
		}
	}
	return err
}

func (s *stream) retract() error { return nil }

func (s *stream) abort() error { return nil }

func (s *stream) close() {
	for _, f := range s.files {
		_ = f.Close()
	}
}

// archive is a store: a stream in a file.
type archive struct {
	file    *os.File
	name    string
	begin   int64 // where the stream begins, in bytes
	members map[string]member
}

// member is where a file stands in a stream, in bytes.
type member struct{ at, size int64 }

// mostMembers bounds how many files a stream may have.
const mostMembers = 1 << 22

// OpenStream opens an image in a stream that stands in the regular file f, from
// where its offset is, and belongs to the Reader from then on. name is how the user
// knows it.
func (k Keys) OpenStream(f *os.File, name string) (*Reader, error) {
	a := &archive{file: f, name: name, members: map[string]member{}}
	// The package reads no further than it has to, and seeks over contents.
	at := func() (int64, error) { return f.Seek(0, io.SeekCurrent) }
	st, err := f.Stat()
	if err == nil {
		a.begin, err = at()
	}
	if err == nil {
		err = a.index(f, at, st.Size())
	}
	if err != nil {
		return named(nil, a, err)
	}
	return named(k.openIn(a, nil))
}

// ReceiveStream reads a stream to its end, keeps it in the directory spool in a file
// without a name, and opens it.
func (k Keys) ReceiveStream(in io.Reader, spool, name string, progress *Progress) (*Reader, error) {
	f, err := unnamed(spool)
	if err != nil {
		return nil, err
	}
	a := &archive{file: f, name: name, members: map[string]member{}}
	phase := progress.Begin(PhaseStream, 0)
	if err := a.receive(phase.Reader(in)); err != nil {
		return named(nil, a, err)
	}
	phase.End()
	return named(k.openIn(a, nil))
}

// Rewind gives the file that a stream was opened in, or kept in, its offset where the
// stream begins. It is the Reader's. nil: the image is in a directory.
func (r *Reader) Rewind() (*os.File, error) {
	a, ok := r.store.(*archive)
	if !ok {
		return nil, nil
	}
	if _, err := a.file.Seek(a.begin, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read %s again: %w", a.name, err)
	}
	return a.file, nil
}

func (a *archive) receive(in io.Reader) error {
	kept := bufio.NewWriterSize(a.file, 1<<20)
	c := &counted{r: io.TeeReader(bufio.NewReaderSize(in, 1<<20), kept)}
	if err := a.index(c, func() (int64, error) { return c.n, nil }, math.MaxInt64); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, in); err != nil { // who writes must not be told that nobody reads
		return fmt.Errorf("read the stream: %w", err)
	}
	if err := kept.Flush(); err != nil {
		return writeError("the stream to "+a.file.Name(), a.file.Name(), err)
	}
	return nil
}

// counted knows how far it has been read, in bytes.
type counted struct {
	r io.Reader
	n int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}

// index finds the members of a stream, of at most size bytes; at tells how far r has
// been read.
func (a *archive) index(r io.Reader, at func() (int64, error), size int64) error {
	cutOff := func() error {
		return failure.WithHint(failure.Damagedf("the stream is cut off"), "the dump that was to write it has failed: look at what it says")
	}
	t := tar.NewReader(r)
	for n := 0; ; n++ {
		h, err := t.Next()
		switch {
		case errors.Is(err, io.EOF) && n == 0:
			return failure.WithHint(failure.Damagedf("the stream is empty"), "the dump that was to write it has failed: look at what it says")
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, io.ErrUnexpectedEOF) && n == 0:
			return failure.WithHint(failure.Damagedf("it is no image, or a stream that is cut off where it begins"), "give what `ckpt dump NAME -` has written, or a directory")
		case errors.Is(err, io.ErrUnexpectedEOF):
			return cutOff()
		case n > 0 && (errors.Is(err, tar.ErrHeader) || errors.Is(err, tar.ErrFieldTooLong)):
			return failure.Damagedf("the stream is damaged behind %d files", n)
		case errors.Is(err, tar.ErrHeader), errors.Is(err, tar.ErrFieldTooLong):
			return failure.WithHint(failure.Damagedf("it is no image: neither a directory nor a stream"), "give what `ckpt dump NAME -` has written, or a directory")
		case err != nil:
			return unread(fmt.Errorf("read the stream: %w", failure.WithoutPath(err)))
		case n == mostMembers:
			return failure.Damagedf("the stream has more than %d files", mostMembers)
		}
		begins, err := at()
		if err != nil {
			return fmt.Errorf("read the stream: %w", err)
		}
		if h.Size > size-begins && !isSparse(h) { // lseek(2) would go there, or refuse to
			return cutOff()
		}
		if err := a.add(h, begins); err != nil {
			return err
		}
	}
}

// add notes a member. What would be no file of an image in a directory is none here.
func (a *archive) add(h *tar.Header, at int64) error {
	name := path.Clean(h.Name)
	switch {
	case h.Typeflag == tar.TypeDir, h.Typeflag == tar.TypeSymlink, !isFile(name), inParentLink(name):
		return nil
	case h.Typeflag == tar.TypeLink:
		return failure.WithHint(failure.Damagedf("%s is stored as a link to %s", h.Name, h.Linkname), "pack the image without -h (--dereference)")
	case isSparse(h):
		return failure.WithHint(failure.Damagedf("%s is stored with holes", h.Name), "pack the image without -S (--sparse)")
	case h.Typeflag != tar.TypeReg:
		return failure.Damagedf("%s is not a regular file", h.Name)
	case checkPlace(name) != nil:
		return failure.Damagedf("%q is no name for a file of an image", h.Name)
	}
	if _, ok := a.members[name]; ok {
		return failure.Damagedf("%s stands there twice", name)
	}
	a.members[name] = member{at, h.Size}
	return nil
}

// inParentLink: it is of what a link to a parent image leads to, which a directory has
// in the link's place then.
func inParentLink(name string) bool {
	if in, rest, found := strings.Cut(name, "/"); found && isLevel(in) {
		name = rest
	}
	return strings.HasPrefix(name, parentLink+"/")
}

// isSparse: contents do not stand there as they are.
func isSparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return h.Typeflag == tar.TypeGNUSparse
}

func (a *archive) path() string { return a.name }

func (a *archive) close() error { return a.file.Close() }

func (a *archive) list() (sizes map[string]int64, odd string, err error) {
	sizes = map[string]int64{}
	for name, m := range a.members {
		sizes[name] = m.size
	}
	return sizes, "", nil
}

func (a *archive) open(name string) (*stored, error) {
	m, ok := a.members[name]
	if !ok {
		return nil, fmt.Errorf("open %s: %w", name, os.ErrNotExist)
	}
	return &stored{file: a.file, at: m.at, size: m.size, shared: true}, nil
}
