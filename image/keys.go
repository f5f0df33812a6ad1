package image

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"filippo.io/age"

	"ckpt/failure"
)

// Keys are what reading an image may take. The zero value opens those that are
// plain, signed or not.
type Keys struct {
	// Identities open what is encrypted.
	Identities []age.Identity
	// Verify is the key by which the image has to be signed; nil: it need not be.
	Verify ed25519.PublicKey
}

// signedText is what is signed of an image whose manifest has a SHA-256. The words in
// front of it keep a signature of something else from being one of an image.
func signedText(manifest []byte) []byte { return append([]byte("ckpt image 1\n"), manifest...) }

// sign signs an image by the SHA-256 of its manifest.
func (w *Writer) sign(manifest [sha256.Size]byte) error {
	public, ok := w.signKey.Public().(ed25519.PublicKey)
	if !ok {
		return errors.New("sign the image: the key has no public part")
	}
	b, err := AppendEntry(signatureFormat.header(), &Signature{PublicKey: public, Signature: ed25519.Sign(w.signKey, signedText(manifest[:]))})
	if err != nil {
		return fmt.Errorf("encode %s: %w", signatureFormat.Name(""), err)
	}
	w.stored += uint64(len(b))
	return w.to.put(signatureFormat.Name(""), b)
}

// Signer is the key that an image says it is signed by; nil: it is not signed. Only
// that of Keys.Verify is known to have signed it.
func (r *Reader) Signer() (ed25519.PublicKey, error) {
	s, err := r.signature()
	return s.GetPublicKey(), err
}

// signature is nil where the image is not signed.
func (r *Reader) signature() (*Signature, error) {
	if !r.Has(signatureFormat, "") {
		return nil, nil
	}
	s, err := One[*Signature](r, signatureFormat, "")
	if err != nil {
		return nil, err
	}
	if len(s.PublicKey) != ed25519.PublicKeySize {
		return nil, failure.Damagedf("%s: a key of %d bytes", signatureFormat.Name(""), len(s.PublicKey))
	}
	return s, nil
}

// checkSignature refuses an image that is not signed by the key that is asked for.
func (r *Reader) checkSignature() error {
	s, err := r.signature()
	switch {
	case err != nil:
		return err
	case s == nil:
		return failure.WithHint(failure.Damagedf("the image is not signed"), "leave out --verify-key for one whose way you know")
	case !bytes.Equal(s.PublicKey, r.keys.Verify):
		return failure.WithHint(failure.Damagedf("the image is signed by another key than that of --verify-key"), "`ckpt verify` tells by which, without --verify-key")
	case !ed25519.Verify(r.keys.Verify, signedText(r.id), s.Signature):
		return failure.Damagedf("the signature is wrong: the image was changed after it was signed")
	}
	return nil
}

// plainFile is a file of an image, decrypted.
type plainFile struct {
	name string // as it is stored
	file *stored
	r    io.ReaderAt
	size int64
	sums *FileSum // of what r reads; nil: there are none, or r compares them itself
	// counting is the Reader's; nil: nothing is counted.
	counting *atomic.Pointer[Phase]
}

// count counts what others read (Reader.Count).
func (f *plainFile) count(n int) {
	if f.counting != nil {
		f.counting.Load().Add(uint64(n))
	}
}

// find is the name by which a file is stored.
func (r *Reader) find(name string) (stored string, sealed, ok bool) {
	if _, ok := r.sizes[name]; ok {
		return name, false, true
	}
	_, ok = r.sizes[name+aged]
	return name + aged, true, ok
}

// Encrypted tells whether the files of the image are encrypted.
func (r *Reader) Encrypted() bool {
	_, sealed, _ := r.find(manifestFormat.Name(""))
	return sealed
}

// openPlain opens a file of the image by its name; nil if there is none.
func (r *Reader) openPlain(name string) (*plainFile, error) {
	stored, sealed, ok := r.find(name)
	if !ok {
		return nil, nil
	}
	file, err := r.open(stored)
	if err != nil {
		return nil, err
	}
	f := &plainFile{name: stored, file: file, r: file, size: file.size, sums: r.sums[stored], counting: &r.counting}
	if sealed {
		f.check()
		if f.r, f.size, err = r.keys.unseal(stored, f.r, f.size); err != nil {
			_ = file.Close()
			return nil, err
		}
	}
	return f, nil
}

// check has r itself compare all that is read.
func (f *plainFile) check() {
	if f.sums != nil {
		f.r = &shared{checked: checked{name: f.name, r: f.r, size: f.size, sums: f.sums, from: -1}}
		f.sums = nil
	}
}

// shared is checked for several goroutines.
type shared struct {
	mu sync.Mutex
	checked
}

// ReadAt implements io.ReaderAt.
func (s *shared) ReadAt(b []byte, off int64) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.checked.ReadAt(b, off)
}
