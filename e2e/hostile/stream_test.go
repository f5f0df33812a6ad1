package hostile

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"ckpt/e2e/harness"
)

// packed is a member of a stream.
type packed struct {
	tar.Header
	contents []byte
}

// unpack reads a stream.
func unpack(t *testing.T, stream []byte) (all []packed) {
	t.Helper()
	r := tar.NewReader(bytes.NewReader(stream))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		h.Format = tar.FormatUnknown // any that has room for what becomes of it
		all = append(all, packed{*h, b})
	}
}

// pack writes one.
func pack(t *testing.T, all []packed) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, p := range all {
		if err := w.WriteHeader(&p.Header); err != nil {
			t.Fatalf("%s: %v", p.Name, err)
		}
		if _, err := w.Write(p.contents); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// named is what header says instead of the first member of a name in a stream, of
// which the header's sum is made right again.
func named(t *testing.T, stream []byte, name string, header func(b []byte)) []byte {
	t.Helper()
	b := slices.Clone(stream)
	at := bytes.Index(b, append([]byte(name), 0))
	if at < 0 || at%512 != 0 {
		t.Fatalf("%s is not found in the stream", name)
	}
	h := b[at : at+512]
	header(h)
	copy(h[148:156], "        ")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

// TestStreams: whatever is wrong with a stream, it is refused as damage, from a file
// and from a pipe, and nothing is made of it.
//
// $CKPT_FLIPS of its bits are changed, one at a time, and as often it is cut off.
func TestStreams(t *testing.T) {
	e := harness.New(t, "")
	c := e.Watch("changing", []string{"--net", "none"}, harness.Program(t, "changing.c"))
	var out bytes.Buffer
	dump := e.Command(t.Context(), harness.Ckpt(), "dump", c.Name, "-", "--leave-running", "--compress")
	dump.Stdout = &out
	if err := dump.Run(); err != nil {
		t.Fatal(err)
	}
	e.Own("mutant")
	whole := out.Bytes()
	all := unpack(t, whole)
	one := slices.IndexFunc(all, func(p packed) bool { return p.Name == "core-2.img" })
	// with is the stream with changed copies of that member in its place.
	with := func(change func(p packed) []packed) []byte {
		return pack(t, slices.Replace(slices.Clone(all), one, one+1, change(all[one])...))
	}
	header := func(change func(h *tar.Header)) []byte {
		return with(func(p packed) []packed {
			change(&p.Header)
			if p.Typeflag != tar.TypeReg {
				p.Size, p.contents = 0, nil
			}
			return []packed{p}
		})
	}
	size := func(digits string) []byte {
		return named(t, whole, "core-2.img", func(h []byte) { copy(h[124:136], digits) })
	}
	raw := func(text string) []byte { // a record of pax of any form
		var b bytes.Buffer
		b.Write(make([]byte, 512))
		h := b.Bytes()
		copy(h, "core-2.img\x00")
		copy(h[100:], "0000600\x000000000\x000000000\x00")
		copy(h[124:], fmt.Sprintf("%011o\x00", len(text)))
		h[156] = 'x'
		copy(h[257:], "ustar\x0000")
		b.WriteString(text)
		b.Write(make([]byte, -len(text)&511))
		x := named(t, b.Bytes(), "core-2.img", func([]byte) {})
		at := bytes.Index(whole, []byte("core-2.img\x00"))
		return slices.Concat(whole[:at], x, whole[at:])
	}
	shuffled := slices.Clone(all)
	slices.Reverse(shuffled)
	for _, tt := range []struct {
		name   string
		stream []byte
		code   int
	}{
		{"whole", whole, 0},
		{"reversed", pack(t, shuffled), 0},
		{"missing", with(func(packed) []packed { return nil }), 4},
		{"twice", with(func(p packed) []packed { return []packed{p, p} }), 4},
		{"two of them", append(slices.Clone(whole), whole...), 0}, // what is behind the end is not read
		{"garbage behind", append(slices.Clone(whole), "garbage"...), 0},
		{"garbage in front", append([]byte("garbage"), whole...), 4},
		{"another's contents", with(func(p packed) []packed { p.contents = slices.Clone(p.contents); p.contents[9] ^= 1; return []packed{p} }), 4},
		{"shorter", with(func(p packed) []packed { p.contents = p.contents[1:]; p.Size--; return []packed{p} }), 4},
		{"above", header(func(h *tar.Header) { h.Name = "../core-2.img" }), 4},
		{"far above", header(func(h *tar.Header) { h.Name = "same-1/../../../../tmp/core-2.img" }), 4},
		{"absolute", header(func(h *tar.Header) { h.Name = "/tmp/core-2.img" }), 4},
		{"no name", header(func(h *tar.Header) { h.Name = ".img" }), 4},
		{"long name", header(func(h *tar.Header) { h.Name = strings.Repeat("x", 70000) + ".img" }), 4},
		{"link", header(func(h *tar.Header) { h.Typeflag, h.Linkname = tar.TypeSymlink, "/etc/passwd" }), 4},
		{"hard link", header(func(h *tar.Header) { h.Typeflag, h.Linkname = tar.TypeLink, "core-3.img" }), 4},
		{"device", header(func(h *tar.Header) { h.Typeflag, h.Devmajor, h.Devminor = tar.TypeBlock, 7, 0 }), 4},
		{"FIFO", header(func(h *tar.Header) { h.Typeflag = tar.TypeFifo }), 4},
		{"directory", header(func(h *tar.Header) { h.Typeflag, h.Name = tar.TypeDir, "core-2.img/" }), 4},
		{"huge", size("77777777777\x00"), 4},
		{"huger", size("\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff"), 4},
		{"negative", size("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), 4},
		{"no number", size("99999999999\x00"), 4},
		{"nonsense of pax", raw("nonsense"), 4},
		{"endless record of pax", raw("99999999999999999999 path=x\n"), 4},
		{"size of pax", raw("24 size=999999999999999\n"), 4},
		{"negative size of pax", raw("11 size=-1\n"), 4},
		{"path of pax", raw("20 path=../core.img\n"), 4},
		{"map of holes", raw("40 GNU.sparse.map=0,1,9223372036854775807\n"), 4},
	} {
		streamed(t, e, tt.name, tt.stream, tt.code)
	}
	random := rand.New(rand.NewPCG(uint64(number(t, "CKPT_SEED", 1)), 0))
	// What fills a header, or contents, up to 512 bytes says nothing.
	for range number(t, "CKPT_FLIPS", 6) {
		at := random.IntN(len(whole) - 1024)
		b := slices.Clone(whole)
		b[at] ^= 1 << random.IntN(8)
		streamed(t, e, fmt.Sprintf("changed at %d", at), b, 4, 0)
		streamed(t, e, fmt.Sprintf("cut at %d", at), whole[:at], 4)
	}
	c.Look()
}

// streamed verifies and restores a stream, and asks for one of the exit codes.
func streamed(t *testing.T, e *harness.Env, name string, stream []byte, codes ...int) {
	t.Helper()
	path := e.WriteFile("stream", string(stream))
	r := e.Try("verify", path)
	sound(t, name, r, codes...)
	restored := e.Try("restore", path, "--name", "mutant")
	sound(t, name, restored, codes...)
	if restored.Code == 0 {
		e.Run("rm", "-f", "mutant")
	}
	piped := pipe(t, e, stream, "restore", "-", "--name", "mutant")
	sound(t, name+", from a pipe", piped, codes...)
	if piped.Code == 0 {
		e.Run("rm", "-f", "mutant")
	}
	if r.Code != restored.Code || r.Code != piped.Code {
		t.Errorf("%s: three opinions: %v\n%v\n%v", name, r, restored, piped)
	}
	if ps := e.Try("ps", "mutant"); ps.Code != 5 {
		t.Errorf("%s: there is a container: %v", name, ps)
	}
}

// pipe runs ckpt with standard input from a pipe.
func pipe(t *testing.T, e *harness.Env, in []byte, args ...string) harness.Result {
	t.Helper()
	cmd := e.Command(t.Context(), harness.Ckpt(), args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &errs
	begin := time.Now()
	err := cmd.Run()
	if _, exit := errors.AsType[*exec.ExitError](err); err != nil && !exit {
		t.Fatal(err)
	}
	return harness.Result{Args: args, Code: cmd.ProcessState.ExitCode(), Out: out.String(), Err: errs.String(), Took: time.Since(begin)}
}
