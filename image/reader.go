package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
)

// Reader reads an image. It may be used from several goroutines at once, and goes
// on working when the thread's mount namespace has changed.
type Reader struct {
	store    store
	ctx      context.Context // ends the reading (Until); nil: nothing does
	keys     Keys
	vouched  bool // a signed image says what the manifest of this one is
	manifest *Manifest
	sums     map[string]*FileSum   // nil: an image of criu's, which has none
	sizes    map[string]int64      // every file of the image
	id       []byte                // SHA-256 of the manifest
	parent   *Reader               // the image with what did not change since; nil: there is none
	progress *Progress             // see Report
	counting atomic.Pointer[Phase] // see Count
	// See Translation.
	translated map[string][]byte
	names      map[string]string
}

// Open opens a whole image, a directory or a file with a stream: the manifest
// decodes, its version is known, every file is there and has its size. Contents are
// checked as they are read, and by Verify. An image of criu's has no manifest and no
// sums.
func Open(path string) (*Reader, error) { return Keys{}.Open(path) }

// Open is Open for an image that is encrypted, or has to be signed.
func (k Keys) Open(path string) (*Reader, error) {
	if strings.HasSuffix(filepath.Clean(path), partial) {
		return nil, failure.Mark(failure.ErrDamaged, unfinished(path))
	}
	// O_NONBLOCK: a FIFO without a writer would be waited for.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		if _, part := os.Lstat(filepath.Clean(path) + partial); part == nil && errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("%s does not exist: %w", path, unfinished(filepath.Clean(path)+partial))
		}
		return nil, notOpened(path, err)
	}
	st, err := f.Stat()
	if err == nil && st.Mode().IsRegular() {
		return k.OpenStream(f, path)
	}
	if err == nil && !st.IsDir() {
		err = neither(path)
	}
	if err != nil {
		_ = f.Close()
		return nil, unread(err)
	}
	return named(k.openIn(&directory{dir: f}, nil))
}

// named says in each error of which image it is.
func named(r *Reader, s store, err error) (*Reader, error) {
	if err == nil {
		return r, nil
	}
	_ = s.close()
	return nil, eachOf(err, func(e error) error { return fmt.Errorf("%s: %w", s.path(), e) })
}

// openIn reads what is in s, for an image that those in line were made after, the
// latest first.
func (k Keys) openIn(s store, line []*Reader) (*Reader, store, error) {
	r := &Reader{store: s, keys: k, vouched: len(line) > 0}
	if err := r.load(); err != nil {
		return nil, s, err
	}
	return r, s, r.openParent(line)
}

// eachOf changes each error of a joined one.
func eachOf(err error, change func(error) error) error {
	var all []error
	for _, e := range failure.All(err) {
		all = append(all, change(e))
	}
	return errors.Join(all...)
}

// notOpened tells why there is no image to read at dir.
func notOpened(dir string, err error) error {
	switch {
	case errors.Is(err, unix.ENOENT):
		return failure.WithHint(failure.Mark(os.ErrNotExist, fmt.Errorf("read the image %s: there is no such directory", dir)), giveImage)
	case errors.Is(err, unix.ENOTDIR):
		return failure.WithHint(fmt.Errorf("read the image %s: it is not a directory", dir), giveImage)
	case errors.Is(err, unix.ENXIO): // a socket, or a device without a driver (open(2))
		return neither(dir)
	case errors.Is(err, unix.ENAMETOOLONG), errors.Is(err, unix.ELOOP):
		return failure.WithHint(fmt.Errorf("read the image %s: %w", dir, failure.WithoutPath(err)), giveImage)
	}
	return unread(fmt.Errorf("read the image %s: %w", dir, failure.WithoutPath(err)))
}

const giveImage = "give the directory that `ckpt dump` has written"

// neither refuses a device, a FIFO or a socket.
func neither(path string) error {
	return failure.WithHint(fmt.Errorf("read the image %s: it is neither a directory nor a file", path),
		giveImage+", or a file with a stream", "a stream is read as it comes from standard input: ckpt restore -")
}

func unfinished(path string) error {
	return failure.WithHint(fmt.Errorf("%s is an unfinished image", path),
		"the dump that wrote it still runs, or did not succeed: dump again")
}

// Close closes the directory, and those of its parents.
func (r *Reader) Close() error {
	if r.parent != nil {
		_ = r.parent.Close()
	}
	return r.store.close()
}

// levels is the number of subdirectories that say where pages are that several
// processes have in common.
func (r *Reader) levels() int { return int(r.manifest.GetLevels()) }

// Manifest is what ckpt itself wrote about the image; nil for one of criu's.
func (r *Reader) Manifest() *Manifest { return r.manifest }

// Has tells whether there is a file of format f for id.
func (r *Reader) Has(f Format, id string) bool {
	_, _, ok := r.find(f.Name(id))
	return ok
}

// Size is the size of all files together, in bytes.
func (r *Reader) Size() int64 {
	var sum int64
	for _, n := range r.sizes {
		sum += n
	}
	return sum
}

func (r *Reader) load() error {
	var odd string
	var err error
	if r.sizes, odd, err = r.store.list(); err != nil {
		return err
	}
	switch {
	case !r.Has(manifestFormat, "") && !r.hasOurs() && !r.Has(Inventory, ""):
		return failure.WithHint(failure.Damagedf("it holds no image: neither %s nor %s", manifestFormat.Name(""), Inventory.Name("")),
			giveImage)
	case odd != "":
		return failure.Damagedf("%s is not a regular file", odd)
	case r.Has(manifestFormat, ""):
	case r.hasOurs():
		return failure.Damagedf("%s is missing", manifestFormat.Name(""))
	case r.keys.Verify != nil:
		return failure.WithHint(failure.Damagedf("it is an image of criu's, which is not signed"), "leave out --verify-key for one whose way you know")
	default:
		return nil // one of criu's
	}
	if err := r.loadManifest(); err != nil {
		return err
	}
	return r.compare()
}

// hasOurs tells whether there is a file that only ckpt writes.
func (r *Reader) hasOurs() bool {
	for name := range r.sizes {
		if strings.HasPrefix(name, "ckpt-") {
			return true
		}
	}
	return false
}

// mostManifest bounds the file of the manifest, in bytes.
const mostManifest = 2 * maxEntry

func (r *Reader) loadManifest() error {
	d, err := r.openManifest()
	if err != nil {
		return err
	}
	var m Manifest
	if err := d.Next(&m); err != nil {
		return d.atEnd(err, "it has no entry")
	}
	end := d.Offset()
	var seal Seal
	if err := d.Next(&seal); err != nil {
		return d.atEnd(err, "it has no checksum")
	}
	b := make([]byte, end)
	if _, err := d.r.ReadAt(b, 0); err != nil {
		return fmt.Errorf("read %s: %w", d.name, err)
	}
	if crc32.Checksum(b, castagnoli) != seal.Crc32C {
		return d.damaged(0, "checksum")
	}
	if m.Format > Version {
		return failure.WithHint(failure.Mark(failure.ErrIncompatible,
			fmt.Errorf("the image has format %d, this ckpt reads up to %d", m.Format, Version)),
			"a newer ckpt made it: use that one, or a newer one still")
	}
	if m.Levels > maxLevels {
		return d.damaged(0, "it tells of %d levels", m.Levels)
	}
	r.manifest = &m
	return nil
}

// openManifest reads all of the manifest's file, so that what is decoded is what was
// signed.
func (r *Reader) openManifest() (*Decoder, error) {
	name, sealed, _ := r.find(manifestFormat.Name(""))
	if r.sizes[name] > mostManifest {
		return nil, failure.Damagedf("%s has %s", name, humanBytes(r.sizes[name]))
	}
	f, err := r.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, f.size))
	if err != nil {
		return nil, err
	}
	id := sha256.Sum256(b)
	r.id = id[:]
	if r.keys.Verify != nil && !r.vouched {
		if err := r.checkSignature(); err != nil {
			return nil, err
		}
	}
	plain, size := io.ReaderAt(bytes.NewReader(b)), int64(len(b))
	if sealed {
		if plain, size, err = r.keys.unseal(name, plain, size); err != nil {
			return nil, err
		}
	}
	d := newDecoder(name, plain, size, nil)
	return d, d.header(manifestFormat)
}

// compare sets the files that are there against those of the manifest.
func (r *Reader) compare() error {
	r.sums = map[string]*FileSum{}
	var bad []error
	for _, s := range r.manifest.Sums {
		size, ok := r.sizes[s.Name]
		switch {
		case !ok:
			bad = append(bad, failure.Damagedf("%s is missing", s.Name))
		case size < 0 || uint64(size) < s.Size:
			bad = append(bad, failure.Damagedf("%s is cut off: %s of %s are left", s.Name, humanBytes(size), humanBytes(int64(s.Size))))
		case uint64(size) > s.Size:
			bad = append(bad, failure.Damagedf("%s has grown from %s to %s", s.Name, humanBytes(int64(s.Size)), humanBytes(size)))
		case len(s.Crc32C) != chunks(s.Size):
			bad = append(bad, failure.Damagedf("%s has %d checksums, not %d", s.Name, len(s.Crc32C), chunks(s.Size)))
		case len(s.Sha256) != chunks(s.Size) && (len(s.Sha256) > 0 || r.keys.Verify != nil):
			bad = append(bad, failure.Damagedf("%s has %d SHA-256 checksums, not %d, which a signed image needs", s.Name, len(s.Sha256), chunks(s.Size)))
		}
		r.sums[s.Name] = s
	}
	manifest, _, _ := r.find(manifestFormat.Name(""))
	for name := range r.sizes {
		switch {
		case r.sums[name] != nil, name == manifest, name == signatureFormat.Name(""):
		case r.isCopyOfPages(name):
			delete(r.sizes, name)
		default:
			bad = append(bad, failure.Damagedf("%s does not belong to the image", name))
		}
	}
	sortErrors(bad)
	return errors.Join(bad...)
}

// isCopyOfPages tells of a file whether it stands in a level for a link to a pages file,
// for CRIU: some copies have followed it (cp -L), or have its text. Nothing here reads
// it, as nothing reads the link.
func (r *Reader) isCopyOfPages(name string) bool {
	in, base, found := strings.Cut(name, "/")
	return found && isLevel(in) && strings.HasPrefix(base, "pages-") && r.sums[base] != nil
}

func sortErrors(errs []error) {
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
}

// Verify reads every file, of parent images, too, and compares every checksum.
// Each damage is an error of its own in the joined result (failure.All). An image
// of criu's has no checksums: that is an error, too.
func (r *Reader) Verify(ctx context.Context) error {
	if r.sums == nil {
		return failure.WithHint(failure.Unsupportedf("the image is one of criu's and has no checksums"),
			"`ckpt check DIR` reads it, and tells whether it would restore here")
	}
	var bad []error
	phase := r.progress.Begin(PhaseChecksums, r.summed())
	for in := r; in != nil; in = in.parent {
		err := in.verify(ctx, phase)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if in != r {
			err = inParent(in, err)
		}
		bad = append(bad, err)
	}
	phase.End()
	return errors.Join(bad...)
}

// summed is how much there are checksums of, in parent images too, in bytes.
func (r *Reader) summed() (n uint64) {
	for ; r != nil; r = r.parent {
		for _, s := range r.manifest.Sums {
			n += s.Size
		}
	}
	return n
}

func (r *Reader) verify(ctx context.Context, phase *Phase) error {
	var parts []part
	for _, s := range r.manifest.Sums {
		parts = append(parts, partsOf(s.Name, s.Size)...)
	}
	var mu sync.Mutex
	var bad []error
	strong := slices.ContainsFunc(r.manifest.Sums, func(s *FileSum) bool { return len(s.Sha256) > 0 })
	err := sumParts(ctx, r.open, parts, strong, phase, func(p part, sum *FileSum, err error) {
		switch {
		case errors.Is(err, io.ErrUnexpectedEOF):
			err = failure.Damagedf("%s is cut off", p.name)
		case err == nil && !r.sums[p.name].matches(p.index, sum):
			err = failure.Damagedf("%s is damaged at %s (checksum)", p.name, humanBytes(p.offset()))
		case err == nil:
			return
		}
		mu.Lock()
		defer mu.Unlock()
		bad = append(bad, err)
	})
	if err != nil {
		return err
	}
	sortErrors(bad)
	return errors.Join(bad...)
}

func (r *Reader) open(name string) (*stored, error) {
	if from, ok := r.names[name]; ok {
		name = from
	}
	s, err := r.store.open(name)
	if err != nil {
		return nil, r.removed(name, err)
	}
	s.ctx = r.ctx
	return s, nil
}

// removed tells of a file that was there when the image was opened, and in which one
// it was.
func (r *Reader) removed(name string, err error) error {
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	err = failure.WithHint(failure.Damagedf("%s was removed after the image had been opened", name),
		"keep an image, and those that it was made after, until ckpt is done with it")
	if r.vouched {
		return inParent(r, err)
	}
	return err
}

// Until has all reading of the image, and of its parents, fail once ctx has ended.
// Preconditions: nothing is open in it yet.
func (r *Reader) Until(ctx context.Context) {
	for ; r != nil; r = r.parent {
		r.ctx = ctx
	}
}

// Count has f count contents that others read of the image and its parents, of pages and
// behind entries, from now on. nil: nobody does.
func (r *Reader) Count(f *Phase) {
	for ; r != nil; r = r.parent {
		r.counting.Store(f)
	}
}

// Report has p count what Verify does, and others by Progress. nil: nobody looks.
func (r *Reader) Report(p *Progress) { r.progress = p }

// Progress is what Report was given; nil: nobody looks.
func (r *Reader) Progress() *Progress { return r.progress }

// Each calls fn for every entry of a file; fn may read the raw data behind
// the entry with data(n). A file that does not exist has no entries.
func Each[M proto.Message](r *Reader, f Format, id string, fn func(m M, data func(n int) ([]byte, error)) error) error {
	d, err := r.Decode(f, id)
	if err != nil || d == nil {
		return err
	}
	defer d.Close()
	for {
		m := newMessage[M]()
		if err := d.Next(m); err != nil {
			return d.unlessEnd(err)
		}
		if err := fn(m, d.Data); err != nil {
			return err
		}
	}
}

// One reads a file that has exactly one entry.
func One[M proto.Message](r *Reader, f Format, id string) (M, error) {
	var none M
	d, err := r.Decode(f, id)
	if err != nil {
		return none, err
	}
	if d == nil {
		return none, failure.Damagedf("%s is missing", f.Name(id))
	}
	defer d.Close()
	m := newMessage[M]()
	if err := d.Next(m); err != nil {
		return none, d.atEnd(err, "it has no entry")
	}
	if d.Rest() > 0 {
		return none, d.damaged(d.Offset(), "more than one entry")
	}
	return m, nil
}

func newMessage[M proto.Message]() M {
	var none M
	return none.ProtoReflect().New().Interface().(M)
}
