package image

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"

	"filippo.io/age"

	"ckpt/failure"
)

// aged is what the name of an encrypted file ends with, behind its own.
const aged = ".age"

// outFile is a file of an image that is being written; encrypted, if that is wanted.
type outFile struct {
	w      *Writer
	name   string // as it is stored
	file   *os.File
	sum    *summer        // nil: it is summed by reading it back
	sealed io.WriteCloser // encrypts; nil: plain
	handed bool           // over to others, of whom what they write is counted (Writer.Count)
	ended  bool
	failed error // the first that went wrong: it must not come to a commit, whoever was told
}

// make makes a file. summed: its sums are made as it is written.
func (w *Writer) make(name string, summed bool) (*outFile, error) {
	if w.done {
		return nil, fmt.Errorf("make %s: the image is finished", name)
	}
	f := &outFile{w: w, name: w.storedName(name)}
	var err error
	if f.file, err = w.to.create(f.name); err != nil {
		return nil, err
	}
	if summed {
		f.sum = w.newSummer()
	}
	if len(w.recipients) > 0 {
		if f.sealed, err = age.Encrypt(direct{f}, w.recipients...); err != nil {
			return nil, errors.Join(fmt.Errorf("encrypt %s: %w", name, err), w.to.ended(f.file))
		}
	}
	return f, nil
}

func (w *Writer) storedName(name string) string {
	if len(w.recipients) > 0 {
		return name + aged
	}
	return name
}

func (w *Writer) newSummer() *summer { return &summer{strong: w.signKey != nil} }

// Write implements io.Writer.
func (f *outFile) Write(b []byte) (int, error) {
	to := io.Writer(direct{f})
	if f.sealed != nil {
		to = f.sealed
	}
	n, err := to.Write(b)
	if f.handed {
		f.w.counting.Load().Add(uint64(n))
	}
	return n, err
}

// Close ends the file, and tells, each time that it is called, whether all of it was
// written.
func (f *outFile) Close() error {
	if f.ended {
		return f.failed
	}
	f.ended = true
	if f.sealed != nil {
		f.failed = cmp.Or(f.failed, f.sealed.Close())
	}
	f.failed = cmp.Or(f.failed, f.w.to.ended(f.file))
	return f.failed
}

// direct writes what is stored.
type direct struct{ f *outFile }

func (d direct) Write(b []byte) (int, error) {
	if err := d.f.w.ctx.Err(); err != nil {
		return 0, err
	}
	if d.f.sum != nil {
		d.f.sum.add(b)
	}
	n, err := d.f.file.Write(b)
	if err != nil {
		err = writeError(d.f.name, d.f.w.to.where(), err)
		d.f.failed = cmp.Or(d.f.failed, err)
	}
	return n, err
}

// seal is b as it is stored.
func (w *Writer) seal(name string, b []byte) ([]byte, error) {
	if len(w.recipients) == 0 {
		return b, nil
	}
	var out bytes.Buffer
	sealed, err := age.Encrypt(&out, w.recipients...)
	if err == nil {
		if _, err = sealed.Write(b); err == nil {
			err = sealed.Close()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("encrypt %s: %w", name, err)
	}
	return out.Bytes(), nil
}

// put stores a small file, and gives its sums.
func (w *Writer) put(name string, b []byte) (*FileSum, error) {
	b, err := w.seal(name, b)
	if err != nil {
		return nil, err
	}
	name = w.storedName(name)
	s := w.newSummer()
	s.add(b)
	return s.of(name), w.to.put(name, b)
}

// unseal decrypts a stored file.
func (k Keys) unseal(name string, r io.ReaderAt, size int64) (io.ReaderAt, int64, error) {
	if len(k.Identities) == 0 {
		return nil, 0, failure.WithHint(errors.New("the image is encrypted"), "give a key that opens it: --identity FILE")
	}
	plain, n, err := age.DecryptReaderAt(r, size, k.Identities...)
	if _, no := errors.AsType[*age.NoIdentityMatchError](err); no {
		return nil, 0, failure.WithHint(errors.New("the image is encrypted for other keys than those given"), "give one of a recipient: --identity FILE")
	}
	if err != nil {
		return nil, 0, unsealError(name, err)
	}
	return unsealed{name, plain}, n, nil
}

// unsealed says of which file an error of decrypting is.
type unsealed struct {
	name string
	r    io.ReaderAt
}

func (u unsealed) ReadAt(b []byte, off int64) (int, error) {
	n, err := u.r.ReadAt(b, off)
	if err != nil && !errors.Is(err, io.EOF) {
		err = unsealError(u.name, err)
	}
	return n, err
}

func unsealError(name string, err error) error {
	if errors.Is(err, failure.ErrDamaged) {
		return err
	}
	if re, ok := errors.AsType[*readError](err); ok {
		return re
	}
	return failure.Damagedf("%s is damaged: it does not decrypt: %w", name, err)
}
