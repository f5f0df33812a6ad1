package image

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"filippo.io/age"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
)

// flushAt bounds what a file of entries keeps in memory, in bytes.
const flushAt = 1 << 20

// Writer writes an image. Its methods may be called from
// several goroutines at once.
type Writer struct {
	to  target
	ctx context.Context

	mu     sync.Mutex
	lists  map[string]*list        // files of entries
	raw    map[string]*outFile     // others
	pages  map[string]*PagesWriter // by pagemap id
	done   bool
	stored uint64 // bytes in all files, once they are finished

	progress *Progress             // may be nil
	counting atomic.Pointer[Phase] // see Count

	compression *compression // nil: none
	recipients  []age.Recipient
	signKey     ed25519.PrivateKey // nil: it is not signed
	parent      *Reader            // nil: there is none
	parentPath  string             // the way there from the image
	same        *same
}

// list is a file that grows by entries.
type list struct {
	file *outFile // nil until the buffer has once been flushed
	buf  []byte
}

// Options are how an image is to be written.
type Options struct {
	// Parent is an image of the same container: what it has already is not
	// written again. The new image needs it from then on. May be nil.
	Parent *Reader
	// Compress is how much pages are compressed; all else is small.
	Compress Level
	// Encrypt are whom all files are encrypted for; none: they are plain.
	Encrypt []age.Recipient
	// Sign is the key by which the image is signed; nil: it is not.
	Sign ed25519.PrivateKey
	// Progress counts what Commit does; see also Count. nil: nobody looks.
	Progress *Progress
	// Context ends the writing: once it has ended, everything fails that writes or
	// reads much. nil: nothing ends it.
	Context context.Context
}

func (o Options) context() context.Context {
	if o.Context == nil {
		return context.Background()
	}
	return o.Context
}

// Create starts an image that will stand at dir, which must be absent or an
// empty directory. Commit or Abort ends it.
func Create(dir string, o Options) (*Writer, error) {
	p, err := findPlace(dir)
	if err != nil {
		return nil, err
	}
	d, err := p.makePartial()
	if err != nil {
		p.close()
		return nil, err
	}
	return newWriter(&folder{place: p, dir: d}, o)
}

func newWriter(to target, o Options) (*Writer, error) {
	w := &Writer{to: to, ctx: o.context(), lists: map[string]*list{}, raw: map[string]*outFile{}, pages: map[string]*PagesWriter{}, parent: o.Parent, same: newSame(o.Compress != Plain || len(o.Encrypt) > 0), recipients: o.Encrypt, signKey: o.Sign, progress: o.Progress}
	var err error
	w.compression, err = newCompression(o.Compress)
	if err == nil && o.Parent != nil {
		o.Parent.Until(w.ctx)
		if err = o.Parent.checkHeir(); err == nil {
			w.parentPath, err = to.pathOfParent(o.Parent)
		}
	}
	if err != nil {
		return nil, errors.Join(err, w.Abort())
	}
	return w, nil
}

// Count has f count pages, and contents of files of others (Raw, File), as they are
// handed over, from now on. nil: nobody does.
func (w *Writer) Count(f *Phase) { w.counting.Store(f) }

// Add appends an entry to the file of format f; id tells apart the files of a
// format that has one a process or object ("core-12.img"), "" where there is
// only one. data, if any, follows the entry raw (pipes-data, sk-queues).
func (w *Writer) Add(f Format, id string, m proto.Message, data ...[]byte) error {
	name := f.Name(id)
	if err := checkName(name); err != nil {
		return err
	}
	return w.add(f, name, m, data...)
}

func (w *Writer) add(f Format, name string, m proto.Message, data ...[]byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.lists[name]
	if l == nil {
		if w.raw[name] != nil {
			return fmt.Errorf("%s is written by someone else", name)
		}
		l = &list{buf: f.header()}
		w.lists[name] = l
	}
	buf, err := AppendEntry(l.buf, m)
	if err != nil {
		return fmt.Errorf("encode an entry of %s: %w", name, err)
	}
	for _, d := range data {
		buf = append(buf, d...)
	}
	l.buf = buf
	if len(l.buf) < flushAt {
		return nil
	}
	return w.flush(name, l)
}

// AppendEntry appends m to b the way entries stand in a file.
func AppendEntry(b []byte, m proto.Message) ([]byte, error) {
	at := len(b)
	b, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend(append(b, 0, 0, 0, 0), m)
	if err != nil {
		return nil, err
	}
	n := len(b) - at - 4
	if n > maxEntry {
		return nil, fmt.Errorf("entry of %d bytes: at most %d are possible", n, maxEntry)
	}
	le32(b[:at], uint32(n))
	return b, nil
}

// Raw starts a file of one entry with contents of any size behind it
// (ghost-file): header and entry are written, and contents follow. The caller closes
// it before Commit.
func (w *Writer) Raw(f Format, id string, m proto.Message) (io.WriteCloser, error) {
	b, err := AppendEntry(f.header(), m)
	if err != nil {
		return nil, fmt.Errorf("encode an entry of %s: %w", f.Name(id), err)
	}
	file, err := w.File(f.Name(id))
	if err != nil {
		return nil, err
	}
	_, err = file.Write(b)
	return file, err
}

// File makes a file of the image with no header of ours. Its name must end in
// ".img". The caller closes it before Commit.
func (w *Writer) File(name string) (io.WriteCloser, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	f, err := w.file(name, true)
	if err != nil {
		return nil, err
	}
	f.handed = true
	return f, nil
}

func (w *Writer) file(name string, summed bool) (*outFile, error) {
	if w.lists[name] != nil {
		return nil, fmt.Errorf("%s is being written as entries", name)
	}
	f, err := w.make(name, summed)
	if err == nil {
		w.raw[name] = f
	}
	return f, err
}

// flush writes what l holds. Preconditions: w.mu is held, or nobody else
// knows of l any more.
func (w *Writer) flush(name string, l *list) error {
	if l.file == nil {
		f, err := w.make(name, true)
		if err != nil {
			return err
		}
		l.file = f
	}
	if _, err := l.file.Write(l.buf); err != nil {
		return err
	}
	l.buf = l.buf[:0]
	return nil
}

// writeError says which file could not be written, at or below which path.
func writeError(name, at string, err error) error {
	err = fmt.Errorf("write %s: %w", name, failure.WithoutPath(err))
	if errors.Is(err, unix.EFBIG) {
		return failure.WithHint(err, "raise the limit on file sizes (ulimit -f)")
	}
	return failure.OnDisk(err, at)
}

// end writes the rest of l.
func (w *Writer) end(name string, l *list) (*FileSum, error) {
	if l.file == nil {
		return w.put(name, l.buf)
	}
	if err := w.flush(name, l); err != nil {
		return nil, err
	}
	if err := l.file.Close(); err != nil { // writes, too
		return nil, err
	}
	return l.file.sum.of(l.file.name), nil
}

// Abort removes DIR.partial. After Commit succeeded it does nothing.
func (w *Writer) Abort() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done {
		return nil
	}
	w.done = true
	w.endFiles()
	err := w.to.abort()
	w.to.close()
	return err
}

// endFiles ends what callers have not, too.
func (w *Writer) endFiles() {
	for _, f := range w.raw {
		_ = f.Close()
	}
	for _, l := range w.lists {
		if l.file != nil {
			_ = l.file.Close()
		}
	}
}
