package images

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ckpt/e2e/harness"
)

// TestEncrypted: an image for a recipient of age, or an SSH key, shows nothing of the
// program, is opened by the key alone, and by age(1) itself; so is a stream of it.
func TestEncrypted(t *testing.T) {
	for _, user := range harness.Users() {
		t.Run("as "+user, func(t *testing.T) {
			e := harness.New(t, user)
			shell(t, e, "age-keygen -o key 2>said && sed -n 's/^Public key: //p' said >recipient && ssh-keygen -q -t ed25519 -N '' -f ssh")
			recipient, err := os.ReadFile(e.Join("recipient"))
			if err != nil {
				t.Fatal(err)
			}
			s := e.Watch("changing", nil, harness.Program(t, "changing.c"))
			dir := e.Join("a")
			dump(s, dir, "--leave-running", "--encrypt", strings.TrimSpace(string(recipient)), "--encrypt", "ssh.pub")
			e.Run("dump", "changing", e.Join("plain"), "--leave-running")
			for _, f := range glob(t, dir, "*.img*") {
				b, err := os.ReadFile(f)
				if err != nil {
					t.Fatal(err)
				}
				if !strings.HasSuffix(f, ".age") || bytes.Contains(b, []byte("changing")) {
					t.Errorf("%s is not encrypted", f)
				}
			}
			if b, err := os.ReadFile(e.Join("plain/ckpt.img")); err != nil || !bytes.Contains(b, []byte("changing")) {
				t.Errorf("a plain one does not show the program's name, so that this test is worth nothing (%v)", err)
			}
			shell(t, e, "age -d -i key a/pstree.img.age | cmp - plain/pstree.img")
			for _, command := range []string{"restore", "verify", "inspect", "check"} {
				r := e.Try(command, dir)
				if r.Code != 1 || !strings.Contains(r.Err, "ckpt: error: "+dir+": the image is encrypted\nckpt: hint: give a key that opens it: --identity FILE\n") {
					t.Errorf("%v", r)
				}
			}
			s.Look()
			if out := e.Run("inspect", dir, "--identity", "key"); !strings.Contains(out, "\nstored     encrypted\n") {
				t.Errorf("inspect: %s", out)
			}
			if r := e.Try("dump", s.Name, e.Join("shown"), "--leave-running", "--parent", dir, "--identity", "key"); r.Code != 0 || !strings.Contains(r.Err, "the image will not be encrypted, as its parent is") {
				t.Errorf("%v", r)
			}
			dump(s, e.Join("b"), "--parent", dir, "--identity", "key", "--encrypt", "recipient", "--compress")
			e.Restore(e.Join("b"), "", "--identity", "key")
			s.Look()
			s.Remove()
			if out := e.Run("verify", dir, "--identity", "ssh"); !strings.Contains(out, "whole") {
				t.Errorf("verify: %s", out)
			}
			e.Restore(dir, "", "--identity", "ssh")
			s = &harness.Subject{Container: s.Container}
			s.Look()
			shell(t, e, harness.Ckpt()+" dump changing - --encrypt recipient >stream && "+harness.Ckpt()+" restore - --identity key <stream")
			s.Look()
		})
	}
}

func glob(t *testing.T, dir, names string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, names))
	if err != nil || len(files) == 0 {
		t.Fatalf("no %s in %s: %v", names, dir, err)
	}
	return files
}

// TestSigned: an image that was signed is restored for who asks for that; one that
// was changed, or signed by another, is not, and nothing is left.
func TestSigned(t *testing.T) {
	e := harness.New(t, harness.Users()[0])
	shell(t, e, "ssh-keygen -q -t ed25519 -N '' -f key && ssh-keygen -q -t ed25519 -N '' -f other && ssh-keygen -q -t ed25519 -N secret -f locked && ssh-keygen -q -t rsa -N '' -f rsa")
	s := e.Watch("changing", nil, harness.Program(t, "changing.c"))
	dir := e.Join("a")
	dump(s, dir, "--sign", "key", "--leave-running")
	e.Run("dump", "changing", e.Join("unsigned"), "--leave-running")
	if out := e.Run("verify", dir, "--verify-key", "key.pub"); !strings.Contains(out, ", signed by SHA256:") {
		t.Errorf("verify: %s", out)
	}
	if out := e.Run("inspect", dir); !strings.Contains(out, "\nstored     signed by SHA256:") {
		t.Errorf("inspect: %s", out)
	}
	if out := e.Run("verify", dir); !strings.Contains(out, ", says that SHA256:") {
		t.Errorf("verify: %s", out)
	}
	s.Look()
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"restore", dir, "--verify-key", "other.pub", "--name", "x"}, 4, "the image is signed by another key than that of --verify-key"},
		{[]string{"restore", e.Join("unsigned"), "--verify-key", "key.pub", "--name", "x"}, 4, "the image is not signed"},
		{[]string{"restore", dir, "--verify-key", "key", "--name", "x"}, 2, "--verify-key key: it is a secret key, and a public one is asked for"},
		{[]string{"restore", dir, "--verify-key", "locked.pub", "--verify-key", "/dev/null", "--name", "x"}, 2, "--verify-key /dev/null: it is empty"},
		{[]string{"restore", dir, "--verify-key", "rsa.pub", "--name", "x"}, 2, "of another sort than ed25519"},
		{[]string{"restore", dir, "--verify-key", "none", "--name", "x"}, 2, "--verify-key none: no such file or directory"},
		{[]string{"restore", dir, "--identity", "none", "--name", "x"}, 2, "--identity none: no such file or directory"},
		{[]string{"restore", dir, "--identity", "key.pub", "--name", "x"}, 2, "--identity key.pub: it is a public key, and a secret one is asked for"},
		{[]string{"restore", dir, "--identity", "/dev/null", "--name", "x"}, 2, "--identity /dev/null: it is empty"},
		{[]string{"restore", dir, "--identity", "locked", "--name", "x"}, 2, "--identity locked: the key is protected by a passphrase"},
		{[]string{"dump", "changing", e.Join("no"), "--sign", "locked"}, 2, "--sign locked: the key is protected by a passphrase"},
		{[]string{"dump", "changing", e.Join("no"), "--sign", "rsa"}, 2, "--sign rsa: it is a private key of another sort than ed25519"},
		{[]string{"dump", "changing", e.Join("no"), "--sign", "none"}, 2, "--sign none: no such file or directory"},
		{[]string{"dump", "changing", e.Join("no"), "--encrypt", "none"}, 2, "--encrypt: none is no recipient (age1..., ssh-ed25519 ...), and no file with some"},
		{[]string{"dump", "changing", e.Join("no"), "--encrypt", "age1x"}, 2, "--encrypt: "},
		{[]string{"dump", "changing", e.Join("no"), "--sign", "key.pub"}, 2, "--sign key.pub: it is a public key, and a secret one is asked for"},
		{[]string{"dump", "changing", e.Join("no"), "--encrypt", "key"}, 2, "--encrypt: key: it is a secret key, and a public one is asked for"},
		{[]string{"dump", "changing", e.Join("no"), "--identity", "key"}, 2, "--identity and --verify-key are for the image that --parent names"},
		{[]string{"dump", "changing", e.Join("no"), "--encrypt", ""}, 2, "--encrypt is empty"},
	} {
		if r := e.Try(tt.args...); r.Code != tt.code || !strings.Contains(r.Err, tt.want) {
			t.Errorf("%v: want %d and %q", r, tt.code, tt.want)
		}
		s.Look()
	}
	s.Remove()
	e.Restore(dir, "", "--verify-key", "key.pub")
	s = &harness.Subject{Container: s.Container}
	s.Look()
	s.Remove()
	f, err := os.OpenFile(e.Join("a/pages-2.img"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("x"), 1<<20); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	if r := e.Try("restore", dir, "--verify-key", "key.pub"); r.Code != 4 || !strings.Contains(r.Err, "pages-2.img is damaged") {
		t.Errorf("%v", r)
	}
}
