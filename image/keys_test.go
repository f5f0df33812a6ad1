package image

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"ckpt/failure"
)

func newIdentity(t *testing.T) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	check(t, err)
	return id
}

func newSigner(t *testing.T) (ed25519.PublicKey, ed25519.PrivateKey) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	check(t, err)
	return public, private
}

// makeSecret writes an image of two processes and a large file of entries.
func makeSecret(t *testing.T, dir string, o Options) {
	t.Helper()
	w, err := Create(dir, o)
	check(t, err)
	write(t, w, "2", "a@10 b@11 c@12")
	write(t, w, "3", "a@10 x@11 c@12")
	check(t, w.Add(PSTree, "", pstreeEntry(2)))
	check(t, w.Add(PipesData, "", pipeEntry(1, 3*flushAt/2), bytes.Repeat([]byte("secret"), flushAt/4)))
	f, err := w.File("extra-1.img")
	check(t, err)
	_, err = f.Write([]byte("secret"))
	check(t, err)
	check(t, f.Close())
	check(t, w.Commit(&Manifest{Name: "secret"}))
}

func TestEncryptedImage(t *testing.T) {
	id, other := newIdentity(t), newIdentity(t)
	for _, o := range []Options{{}, {Compress: Default}} {
		o.Encrypt = []age.Recipient{other.Recipient(), id.Recipient()}
		dir := filepath.Join(t.TempDir(), "img")
		makeSecret(t, dir, o)
		for _, f := range names(t, dir) {
			path := filepath.Join(dir, f)
			if st, err := os.Lstat(path); err != nil || !st.Mode().IsRegular() {
				continue // the way to a level
			}
			b, err := os.ReadFile(path)
			check(t, err)
			if !strings.HasSuffix(f, ".img.age") && !strings.HasSuffix(f, ".img.zst.age") || bytes.Contains(b, []byte("secret")) {
				t.Errorf("%s is not encrypted", f)
			}
		}
		for _, k := range []Keys{{Identities: []age.Identity{id}}, {Identities: []age.Identity{newIdentity(t), other}}} {
			r, err := k.Open(dir)
			check(t, err)
			want(t, r, "2", "a@10 b@11 c@12")
			want(t, r, "3", "a@10 x@11 c@12")
			check(t, r.Verify(t.Context()))
			if r.Manifest().GetName() != "secret" || !r.Has(PipesData, "") {
				t.Errorf("%v", r.Manifest())
			}
			d, err := r.Decode(PipesData, "")
			check(t, err)
			check(t, d.Next(pipeEntry(0, 0)))
			b, err := d.Data(3 * flushAt / 2)
			if err != nil || !bytes.HasPrefix(b, []byte("secret")) {
				t.Errorf("data: %v", err)
			}
			d.Close()
			c, err := r.Contents("3")
			check(t, err)
			page := make([]byte, 1)
			if _, err := c.ReadAt(page, 0x11000); err != nil || page[0] != 'x' {
				t.Errorf("contents: %q (%v)", page, err)
			}
			c.Close()
			check(t, r.Close())
		}
		for _, k := range []Keys{{}, {Identities: []age.Identity{newIdentity(t)}}} {
			if _, err := k.Open(dir); err == nil || errors.Is(err, failure.ErrDamaged) || !strings.Contains(err.Error(), "encrypted") || len(failure.Hints(err)) == 0 {
				t.Errorf("another key: %v", err)
			}
		}
		// What was changed does not decrypt, whatever the checksums say.
		path := filepath.Join(dir, "pstree.img.age")
		b, err := os.ReadFile(path)
		check(t, err)
		flip(t, path, int64(len(b)-20))
		r, err := Keys{Identities: []age.Identity{id}}.Open(dir)
		check(t, err)
		r.sums["pstree.img.age"] = nil
		if _, err := r.Decode(PSTree, ""); !errors.Is(err, failure.ErrDamaged) || !strings.Contains(err.Error(), "does not decrypt") {
			t.Errorf("changed: %v", err)
		}
		check(t, r.Close())
	}
}

func TestSignedImage(t *testing.T) {
	public, private := newSigner(t)
	_, otherPrivate := newSigner(t)
	signed := Options{Sign: private}
	reseal := func(t *testing.T, dir string, change func(m *Manifest)) {
		r, err := Open(dir)
		check(t, err)
		m := r.Manifest()
		check(t, r.Close())
		change(m)
		b, err := AppendEntry(manifestFormat.header(), m)
		check(t, err)
		b, err = AppendEntry(b, &Seal{Crc32C: crc32.Checksum(b, castagnoli)})
		check(t, err)
		check(t, os.WriteFile(filepath.Join(dir, "ckpt.img"), b, 0o600))
	}
	for _, tt := range []struct {
		name  string
		o     Options
		spoil func(t *testing.T, dir string)
		want  string // "": it is right
	}{
		{"signed", signed, func(*testing.T, string) {}, ""},
		{"compressed", Options{Sign: private, Compress: Default}, func(*testing.T, string) {}, ""},
		{"not signed", Options{}, func(*testing.T, string) {}, "the image is not signed"},
		{"by another", Options{Sign: otherPrivate}, func(*testing.T, string) {}, "signed by another key"},
		{"signature gone", signed, func(t *testing.T, dir string) { check(t, os.Remove(filepath.Join(dir, "ckpt-signature.img"))) }, "the image is not signed"},
		{"signature of another image", signed, func(t *testing.T, dir string) {
			makeSecret(t, dir+"2", Options{Sign: private, Compress: Default})
			check(t, os.Rename(filepath.Join(dir+"2", "ckpt-signature.img"), filepath.Join(dir, "ckpt-signature.img")))
		}, "the signature is wrong"},
		{"manifest changed", signed, func(t *testing.T, dir string) {
			reseal(t, dir, func(m *Manifest) { m.Name = "other" })
		}, "the signature is wrong"},
		{"pages changed", signed, func(t *testing.T, dir string) { flip(t, filepath.Join(dir, "pages-1.img"), 5) }, "pages-1.img is damaged"},
		{"entries changed", signed, func(t *testing.T, dir string) { flip(t, filepath.Join(dir, "pstree.img"), 15) }, "pstree.img is damaged"},
		{"criu's", signed, func(t *testing.T, dir string) {
			for _, f := range []string{"ckpt.img", "ckpt-signature.img"} {
				check(t, os.Remove(filepath.Join(dir, f)))
			}
			check(t, os.WriteFile(filepath.Join(dir, "inventory.img"), nil, 0o600))
		}, "which is not signed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "img")
			makeSecret(t, dir, tt.o)
			tt.spoil(t, dir)
			r, err := Keys{Verify: public}.Open(dir)
			if err == nil {
				err = r.Verify(t.Context())
				if err == nil {
					want(t, r, "3", "a@10 x@11 c@12")
				}
				_ = r.Close()
			}
			if tt.want == "" && err != nil || tt.want != "" && (!errors.Is(err, failure.ErrDamaged) || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

// Whoever can change files may do so when Verify has looked at them already.
func TestSignedImageChangedMeanwhile(t *testing.T) {
	public, private := newSigner(t)
	dir := filepath.Join(t.TempDir(), "img")
	makeSecret(t, dir, Options{Sign: private})
	r, err := Keys{Verify: public}.Open(dir)
	check(t, err)
	defer r.Close()
	check(t, r.Verify(t.Context()))
	flip(t, filepath.Join(dir, "pages-1.img"), 5)
	p, err := PageRuns(r, "2")
	check(t, err)
	defer p.Close()
	if f, _ := p.Runs[0].File.Raw(); f != nil {
		t.Error("its pages are read as they are")
	}
	if err := p.Runs[0].Read(p.Runs[0].Vaddr, make([]byte, PageSize)); !errors.Is(err, failure.ErrDamaged) {
		t.Errorf("error %v", err)
	}
	if err := Send(&bytes.Buffer{}, p.Runs); !errors.Is(err, failure.ErrDamaged) {
		t.Errorf("sent: %v", err)
	}
}

// A signed image vouches for its parent, which needs checksums that are as strong.
func TestSignedLine(t *testing.T) {
	public, private := newSigner(t)
	for _, tt := range []struct {
		name  string
		first Options
		spoil func(dir string)
		want  string
	}{
		{"signed", Options{Sign: private}, func(string) {}, ""},
		{"weak", Options{}, func(string) {}, "SHA-256 checksums"},
		{"changed", Options{Sign: private}, func(dir string) { flip(t, filepath.Join(dir, "pages-1.img"), 5) }, "pages-1.img is damaged"},
	} {
		tmp := t.TempDir()
		first, second := filepath.Join(tmp, "a"), filepath.Join(tmp, "b")
		makeSecret(t, first, tt.first)
		makeSecret(t, second, Options{Sign: private, Parent: open(t, first)})
		tt.spoil(first)
		r, err := Keys{Verify: public}.Open(second)
		if err == nil {
			err = r.Verify(t.Context())
			_ = r.Close()
		}
		if tt.want == "" && err != nil || tt.want != "" && (!errors.Is(err, failure.ErrDamaged) || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: error %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestEncryptedAndSigned(t *testing.T) {
	id := newIdentity(t)
	public, private := newSigner(t)
	dir := filepath.Join(t.TempDir(), "img")
	makeSecret(t, dir, Options{Encrypt: []age.Recipient{id.Recipient()}, Sign: private, Compress: Fastest})
	r, err := Keys{Identities: []age.Identity{id}, Verify: public}.Open(dir)
	check(t, err)
	defer r.Close()
	check(t, r.Verify(t.Context()))
	want(t, r, "2", "a@10 b@11 c@12")
	if by, err := r.Signer(); err != nil || !by.Equal(public) {
		t.Errorf("signed by %x (%v)", by, err)
	}
}

// What the end of an encrypted file could not write is told by the commit, also where
// whoever closed it has not looked.
func TestUnfinishedFileIsNotCommitted(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "img")
	w, err := Create(dir, Options{Encrypt: []age.Recipient{newIdentity(t).Recipient()}})
	check(t, err)
	f, err := w.File("extra-1.img")
	check(t, err)
	_, err = f.Write([]byte("secret"))
	check(t, err)
	check(t, f.(*outFile).file.Close()) // as if the disk failed from now on
	_ = f.Close()
	if err := w.Commit(&Manifest{}); err == nil || !strings.Contains(err.Error(), "write extra-1.img.age") {
		t.Errorf("error %v", err)
	}
	check(t, w.Abort())
}
