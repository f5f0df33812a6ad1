package hostile

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"ckpt/e2e/harness"
	"ckpt/e2e/imagetest"
)

// images are those of one program, twice, each sort in a directory of its name: what
// is written in other ways than a plain image.
type images struct {
	e   *harness.Env
	c   *harness.Subject // it runs
	key *age.X25519Identity
}

// sorts are the sorts of images: how they are made, and how they are read.
var sorts = []struct {
	name  string
	dump  []string
	read  []string
	after string // the image that it was made after; "": none
}{
	{"plain", nil, nil, ""},
	{"packed", []string{"--compress"}, nil, ""},
	{"sealed", []string{"--compress", "--encrypt", "recipient"}, []string{"--identity", "key"}, ""},
	{"changes", []string{"--parent", "plain"}, nil, "plain"},
	{"sealed changes", []string{"--parent", "sealed", "--identity", "key", "--encrypt", "recipient"}, []string{"--identity", "key"}, "sealed"},
	{"signed", []string{"--sign", "sign"}, []string{"--verify-key", "sign.pub"}, ""},
}

// saveSorts makes an image of each sort.
func saveSorts(t *testing.T) *images {
	t.Helper()
	e := harness.New(t, "")
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	e.WriteFile("key", key.String()+"\n")
	e.WriteFile("recipient", key.Recipient().String()+"\n")
	if out, err := e.Command(t.Context(), "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "sign").CombinedOutput(); err != nil {
		t.Fatalf("make a key: %v: %s", err, out)
	}
	c := e.Watch("changing", []string{"--net", "none"}, harness.Program(t, "changing.c"))
	for _, s := range sorts {
		c.Look() // which changes it
		c.Dump(e.Join(s.name), append(s.dump, "--leave-running")...)
	}
	e.Own("mutant")
	return &images{e, c, key}
}

// read takes an image apart.
func (i *images) read(t *testing.T, name string) *imagetest.Image {
	t.Helper()
	key := i.key
	if !strings.HasPrefix(name, "sealed") {
		key = nil
	}
	out, err := imagetest.ReadEncrypted(i.e.Join(name), key)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// looks are commands that look at an image, without its directory.
var looks = [][]string{
	{"verify"}, {"check"}, {"inspect"}, {"inspect", "--json"}, {"diff", "plain"}, {"diff"}, {"core"}, {"dump"},
}

// look runs one of them, k says which, and gives its exit code.
func (i *images) look(t *testing.T, k int, name, dir string, flags []string) int {
	t.Helper()
	e, made := i.e, i.e.Join("made")
	args := slices.Clone(looks[k%len(looks)])
	switch {
	case args[0] == "core":
		args = append(args, dir, "2", made)
	case args[0] == "dump":
		args = append(args, i.c.Name, made, "--leave-running", "--parent", dir)
	case args[0] == "diff" && len(args) == 1:
		args = append(args, dir, "plain")
	default:
		args = append(args, dir)
	}
	if args[0] == "diff" && slices.Contains(flags, "--verify-key") {
		args[slices.Index(args, "plain")] = "signed"
	}
	r := e.Try(append(args, flags...)...)
	sound(t, name, r, 0, 1, 3, 4)
	if err := os.RemoveAll(made); err != nil {
		t.Fatal(err)
	}
	return r.Code
}

// mostMemory is more than a command takes for these images, in bytes.
const mostMemory = 512 << 20

// sound checks that a command has ended in one of the ways that are documented.
func sound(t *testing.T, name string, r harness.Result, codes ...int) {
	t.Helper()
	switch {
	case r.Args[0] == "core" && r.Code == 2 && strings.Contains(r.Err, "no process"): // it was taken out
	case r.Took > slow:
		t.Errorf("%s: too slow: %v", name, r)
	case r.Memory > mostMemory:
		t.Errorf("%s: it took %d MB: %v", name, r.Memory>>20, r)
	case !slices.Contains(codes, r.Code), strings.Contains(r.Err, "goroutine "), strings.Contains(r.Err, "panic:"):
		t.Errorf("%s: %v", name, r)
	case r.Code != 0 && !strings.HasPrefix(r.Err, "ckpt: error: ") && r.Args[0] != "check":
		t.Errorf("%s: there is no sentence: %v", name, r)
	}
}

// TestSorts: what TestMutations does with plain images, with those that are written in
// other ways, and with the parent of one; and every command that reads an image.
//
// Of each sort $CKPT_MUTATIONS are restored, and looked at by one of the commands each;
// 0 is all. $CKPT_SEED chooses which.
func TestSorts(t *testing.T) {
	i := saveSorts(t)
	many, seed := number(t, "CKPT_MUTATIONS", 3), number(t, "CKPT_SEED", 1)
	for _, s := range sorts {
		t.Run(s.name, func(t *testing.T) {
			whole, mutant := i.read(t, s.name), i.e.Join("mutant")
			codes := map[int]int{}
			for k, m := range choose(whole, many, seed) {
				changed := whole.Clone()
				m.Apply(changed)
				codes[i.try(t, k+seed, m.Name, changed, mutant, s.read)]++
			}
			t.Logf("exit codes of restores: %v", codes)
			if s.name == "signed" && (len(codes) != 1 || codes[4] == 0) {
				t.Errorf("mutants of a signed image are not refused: %v", codes)
			}
		})
		if s.after == "" {
			continue
		}
		t.Run("parent of "+s.name, func(t *testing.T) {
			old, child, parent := i.read(t, s.after), i.read(t, s.name), i.e.Join("parent")
			codes := map[int]int{}
			for k, m := range choose(old, many, seed) {
				changed, after := old.Clone(), child.Clone()
				m.Apply(changed)
				if err := changed.Write(parent); err != nil {
					t.Fatalf("%s: %v", m.Name, err)
				}
				if err := after.After(parent); err != nil {
					t.Fatal(err)
				}
				codes[i.try(t, k+seed, "in the parent: "+m.Name, after, i.e.Join("mutant"), s.read)]++
				if err := os.RemoveAll(parent); err != nil {
					t.Fatal(err)
				}
			}
			t.Logf("exit codes of restores: %v", codes)
		})
	}
	i.c.Look()
}

// try restores an image, looks at it, and gives the exit code of the restore.
func (i *images) try(t *testing.T, k int, name string, image *imagetest.Image, dir string, flags []string) int {
	t.Helper()
	if err := image.Write(dir); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	defer os.RemoveAll(dir)
	i.look(t, k, name, dir, flags)
	return i.restore(t, name, dir, flags)
}

// restore restores an image, ends what comes of it, and gives the exit code.
func (i *images) restore(t *testing.T, name, dir string, flags []string) int {
	t.Helper()
	r := i.e.Try(append([]string{"restore", dir, "--name", "mutant"}, flags...)...)
	sound(t, name, r, 0, 1, 3, 4)
	if ps := i.e.Try("ps", "mutant"); r.Code != 0 && ps.Code != 5 {
		t.Errorf("%s: there is a container: %v", name, ps)
	}
	if r.Code == 0 {
		i.e.Run("rm", "-f", "mutant")
	}
	return r.Code
}

// damages are what chance does to a file; nil: it is missing.
var damages = []struct {
	name string
	of   func(b []byte, at int) []byte
}{
	{"missing", nil},
	{"cut", func(b []byte, at int) []byte { return b[:at] }},
	{"changed", func(b []byte, at int) []byte { b[at] ^= 1 << (at % 8); return b }},
	{"longer", func(b []byte, _ int) []byte { return append(b, 0) }},
}

// TestDamagedSorts: whatever file of an image of any sort is missing, cut or changed in
// one bit, or of its parent's, nobody takes it for a good one, and it is named.
//
// Of each sort $CKPT_DAMAGES are tried; 0 is all, of every file in every way.
// $CKPT_SEED chooses which.
func TestDamagedSorts(t *testing.T) {
	i := saveSorts(t)
	many, seed := number(t, "CKPT_DAMAGES", 6), number(t, "CKPT_SEED", 1)
	for _, s := range sorts {
		t.Run(s.name, func(t *testing.T) {
			files := regular(t, i.e.Join(s.name))
			if s.after != "" {
				files = append(files, regular(t, i.e.Join(s.after))...)
			}
			type damage struct{ file, way int }
			var all []damage
			for f := range files {
				for w := range damages {
					all = append(all, damage{f, w})
				}
			}
			random := rand.New(rand.NewPCG(uint64(seed), 0))
			random.Shuffle(len(all), func(a, b int) { all[a], all[b] = all[b], all[a] })
			if many > 0 {
				all = all[:min(many, len(all))]
			}
			for k, d := range all {
				path, way := files[d.file], damages[d.way]
				whole, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if len(whole) == 0 && way.name != "missing" && way.name != "longer" {
					continue
				}
				aside := path + "~"
				if err := os.Rename(path, aside); err != nil {
					t.Fatal(err)
				}
				at := 0
				if len(whole) > 0 {
					at = random.IntN(len(whole))
				}
				if way.of != nil {
					if err := os.WriteFile(path, way.of(slices.Clone(whole), at), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				name := fmt.Sprintf("%s is %s at %d", path, way.name, at)
				args := append([]string{"verify", i.e.Join(s.name)}, s.read...)
				r := i.e.Try(args...)
				file := strings.TrimSuffix(filepath.Base(path), ".age")
				// ckpt.img says that the image is whole: without it, no other file can
				// be blamed.
				if sound(t, name, r, 4); !strings.Contains(r.Err, file) && file != imagetest.Manifest {
					t.Errorf("%s: it is not named: %v", name, r)
				}
				if code := i.restore(t, name, i.e.Join(s.name), s.read); code != 4 {
					t.Errorf("%s: exit code of the restore %d", name, code)
				}
				// Who does not read a file does not miss it, but for one that is missing or
				// of another size.
				if code := i.look(t, k+seed, name, i.e.Join(s.name), s.read); code != 4 && way.name != "changed" {
					t.Errorf("%s: exit code of ckpt %v: %d", name, looks[(k+seed)%len(looks)], code)
				}
				if err := os.Rename(aside, path); err != nil {
					t.Fatal(err)
				}
			}
			if code := i.restore(t, "whole", i.e.Join(s.name), s.read); code != 0 {
				t.Errorf("the whole image: exit code %d", code)
			}
		})
	}
	i.c.Look()
}

// regular are the files of an image.
func regular(t *testing.T, dir string) (paths []string) {
	t.Helper()
	for _, pattern := range []string{"/*.img*", "/same-*/*.img*"} {
		for _, p := range glob(t, dir+pattern) {
			if st, err := os.Lstat(p); err == nil && st.Mode().IsRegular() {
				paths = append(paths, p)
			}
		}
	}
	return paths
}
