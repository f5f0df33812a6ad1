// Package progress looks at what ckpt shows while something takes long: on a terminal,
// as JSON, and that it holds up nothing. How long something takes is up to the test,
// which reads a stream, or writes one.
package progress

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"ckpt/e2e/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// as runs a test as each user, with a container of a few megabytes.
func as(t *testing.T, test func(t *testing.T, e *harness.Env, c *harness.Container)) {
	for _, user := range harness.Users() {
		t.Run("as "+user, func(t *testing.T) {
			e := harness.New(t, user)
			c := e.Start("big", nil, harness.Program(t, "big.c"), "8")
			goesOn(t, c)
			test(t, e, c)
			goesOn(t, c)
		})
	}
}

// goesOn waits until the program has written one line more.
func goesOn(t *testing.T, c *harness.Container) {
	t.Helper()
	before := len(c.Log())
	harness.Eventually(t, "big goes on", func() error {
		if len(c.Log()) == before {
			return errors.New("it writes nothing")
		}
		return c.Alive()
	})
}

// streamed is a dump, or a restore, whose other end is the test's.
type streamed struct {
	*exec.Cmd
	end *os.File
}

// dumping is a dump of big as a stream that goes on only as far as it is read.
func dumping(t *testing.T, e *harness.Env, flags ...string) streamed {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	cmd := e.Command(t.Context(), harness.Ckpt(), append([]string{"dump", "big", "-"}, flags...)...)
	cmd.Stdout = w
	return streamed{cmd, r}
}

// began says that the command has the other end.
func (s streamed) began() { s.Stdout.(*os.File).Close() }

// drain reads all that is left.
func (s streamed) drain(t *testing.T) {
	t.Helper()
	s.began()
	if _, err := io.Copy(io.Discard, s.end); err != nil {
		t.Error(err)
	}
}

const bar = `big: stream, 8\.\d MB  ━* +\d+ k?B/s`

// TestBar: a line is there while one waits, and gone before the result is.
func TestBar(t *testing.T) {
	as(t, func(t *testing.T, e *harness.Env, _ *harness.Container) {
		m := newTerminal(t, 80)
		d := dumping(t, e, "--leave-running")
		m.start(d.Cmd)
		m.shows(bar)
		d.drain(t)
		m.ends(d.Cmd, 0, `big: written \(8\.\d MB, frozen .*\)`)
	})
}

// TestBarNarrow: it fits a terminal that is narrow, and one that changes.
func TestBarNarrow(t *testing.T) {
	as(t, func(t *testing.T, e *harness.Env, _ *harness.Container) {
		m := newTerminal(t, 20)
		d := dumping(t, e, "--leave-running")
		m.start(d.Cmd)
		m.shows(`big: stream, 8\.\d MB`)
		m.resize(80)
		m.shows(bar)
		m.resize(20)
		d.drain(t)
		for line := range strings.Lines(m.all()) {
			line = escape.ReplaceAllString(line, "")
			if n := len([]rune(strings.TrimRight(line, "\r\n"))); n > 80 {
				t.Errorf("a line of %d columns: %q", n, line)
			}
		}
		m.cols = 80 // that of the result is wrapped
		m.ends(d.Cmd, 0, `big: written \(8\.\d MB, frozen .*\)`)
	})
}

// TestBarInterrupted: ctrl-C leaves what it has to say, and nothing else.
func TestBarInterrupted(t *testing.T) {
	as(t, func(t *testing.T, e *harness.Env, _ *harness.Container) {
		m := newTerminal(t, 80)
		d := dumping(t, e)
		m.start(d.Cmd)
		m.shows(bar)
		m.types("\x03")
		m.ends(d.Cmd, 130, `ckpt: error: dump big: interrupted; it goes on as it was`)
	})
}

// TestBarRestore: of what comes in nobody knows how much it will be. ctrl-C, and an end by
// SIGTERM, leave what there is to say, and nothing that was drawn.
func TestBarRestore(t *testing.T) {
	as(t, func(t *testing.T, e *harness.Env, _ *harness.Container) {
		stream := e.Run("dump", "big", "-", "--leave-running")
		for _, how := range []struct {
			end  func(m *terminal, r *exec.Cmd, stream io.Closer)
			code int
			want string
		}{
			{func(m *terminal, _ *exec.Cmd, _ io.Closer) { m.types("\x03") }, 130, `ckpt: error: restore: interrupted; nothing was started`},
			{func(_ *terminal, r *exec.Cmd, _ io.Closer) { r.Process.Signal(syscall.SIGTERM) }, 130, `ckpt: error: restore: interrupted; nothing was started`},
			{func(_ *terminal, _ *exec.Cmd, stream io.Closer) { stream.Close() }, 4, `ckpt: error: standard input: the stream is cut off\nckpt: hint: .*`},
		} {
			m := newTerminal(t, 80)
			r := e.Command(t.Context(), harness.Ckpt(), "restore", "-", "--name", "again")
			keys, err := r.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			m.start(r)
			if _, err := io.WriteString(keys, stream[:len(stream)/2]); err != nil {
				t.Fatal(err)
			}
			m.shows(`again: stream, 4\.\d MB +(0|\d+\.\d k?M?)`)
			how.end(m, r, keys)
			m.ends(r, how.code, how.want)
		}
	})
}

// TestJSON: lines for programs tell of all phases of a dump and a restore, and go
// where there is no terminal.
func TestJSON(t *testing.T) {
	as(t, func(t *testing.T, e *harness.Env, _ *harness.Container) {
		d := dumping(t, e, "--progress", "json", "--quiet")
		stream, err := os.Create(e.Join("stream"))
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		errs, err := d.StderrPipe()
		if err == nil {
			err = d.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		d.began()
		in := bufio.NewReader(errs)
		lines := []string{next(t, in)} // of what goes on
		for !strings.Contains(lines[len(lines)-1], `"stream"`) {
			lines = append(lines, next(t, in))
		}
		if _, err := io.Copy(stream, d.end); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, rest(t, in)...)
		if err := d.Wait(); err != nil {
			t.Fatal(err)
		}
		phases(t, "dump", lines, "memory", "checksums", "stream")

		r := e.Command(t.Context(), harness.Ckpt(), "restore", "-", "--progress", "json")
		keys, err := r.StdinPipe()
		if err == nil {
			errs, err = r.StderrPipe()
		}
		if err == nil {
			err = r.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		in = bufio.NewReader(errs)
		lines = []string{next(t, in)}
		_, err = stream.Seek(0, io.SeekStart)
		if err == nil {
			_, err = io.Copy(keys, stream)
		}
		if err != nil {
			t.Fatal(err)
		}
		keys.Close()
		lines = append(lines, rest(t, in)...)
		if err := r.Wait(); err != nil {
			t.Fatal(err)
		}
		phases(t, "restore", lines, "stream", "memory", "checksums")
	})
}

// TestJSONOfImages: so do what reads images, and what is done in a moment.
func TestJSONOfImages(t *testing.T) {
	as(t, func(t *testing.T, e *harness.Env, c *harness.Container) {
		told := func(what, name string, args ...string) []string {
			t.Helper()
			r := e.Try(append([]string{what, "--progress", "json", "--quiet"}, args...)...)
			if r.Code != 0 {
				t.Fatal(r)
			}
			for line := range strings.Lines(r.Err) {
				if !strings.Contains(line, `"name":"`+name+`"`) {
					t.Errorf("%s: not of %s: %s", what, name, line)
				}
			}
			return slices.Collect(strings.Lines(r.Err))
		}
		phases(t, "dump", told("dump", "big", "big", "one", "--leave-running", "--compress"), "memory")
		phases(t, "dump", told("dump", "big", "big", "two", "--leave-running"), "memory", "checksums", "disk")
		phases(t, "dump", told("dump", "big", "big", "three", "--parent", "two"), "memory")
		phases(t, "verify", told("verify", "three", "three"), "checksums")
		phases(t, "diff", told("diff", "two", "one", "two"), "memory")
		phases(t, "core", told("core", "two", "two", "2", "core"), "memory")
		phases(t, "restore", told("restore", "big", "one"), "memory")
		c.Remove()
		phases(t, "restore", told("restore", "big", "three"), "memory", "checksums")
	})
}

// TestJSONOfFiles: contents that only the container has, of a deleted file, are counted, too.
func TestJSONOfFiles(t *testing.T) {
	for _, user := range harness.Users() {
		t.Run("as "+user, func(t *testing.T) {
			e := harness.New(t, user)
			c := e.Start("big", nil, "sh", "-c", "exec 3>deleted; head -c 9000000 /dev/urandom >&3; rm deleted; echo ready; exec sleep 1000")
			harness.Eventually(t, "it is ready", func() error {
				if !strings.Contains(c.Log(), "ready") {
					return errors.New("it writes the file")
				}
				return c.Alive()
			})
			told := func(args ...string) []string {
				t.Helper()
				r := e.Try(append(args, "--progress", "json")...)
				if r.Code != 0 {
					t.Fatal(r)
				}
				return slices.Collect(strings.Lines(r.Err))
			}
			phases(t, "dump", told("dump", "big", "image"), "files", "disk") // its checksums are made as it is written
			phases(t, "restore", told("restore", "image"), "files", "checksums")
		})
	}
}

func next(t *testing.T, in *bufio.Reader) string {
	t.Helper()
	line, err := in.ReadString('\n')
	if err != nil {
		t.Fatalf("it ends with %q: %v", line, err)
	}
	return line
}

func rest(t *testing.T, in *bufio.Reader) (lines []string) {
	t.Helper()
	b, err := io.ReadAll(in)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Collect(strings.Lines(string(b)))
}

// line is one of --progress json.
type line struct {
	Time, What, Name, Phase string
	Bytes, Total, Rate      uint64
	SecondsLeft             *float64 `json:"seconds_left"`
	Ended                   bool
}

// phases looks whether lines tell of these, bytes grow, and each ends whole.
func phases(t *testing.T, what string, lines []string, want ...string) {
	t.Helper()
	bytes, ended := map[string]uint64{}, []string(nil)
	for _, text := range lines {
		var l line
		dec := json.NewDecoder(strings.NewReader(text))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&l); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		if l.What != what || l.Name == "" || l.Time == "" || l.Bytes < bytes[l.Phase] || slices.Contains(ended, l.Phase) {
			t.Errorf("%s: after %d bytes, and the end of %q: %s", what, bytes[l.Phase], ended, text)
		}
		bytes[l.Phase] = l.Bytes
		if !l.Ended {
			continue
		}
		ended = append(ended, l.Phase)
		if l.Total != l.Bytes || l.Rate == 0 || l.SecondsLeft == nil || *l.SecondsLeft != 0 {
			t.Errorf("%s: the last of its phase: %s", what, text)
		}
	}
	const least = 8 << 20 // that big has
	for _, p := range want {
		if bytes[p] < least {
			t.Errorf("%s: %s: %d bytes of at least %d", what, p, bytes[p], least)
		}
	}
	if got := slices.DeleteFunc(slices.Clone(ended), func(p string) bool { return !slices.Contains(want, p) }); !slices.Equal(got, want) {
		t.Errorf("%s: phases that ended: %q, want %q", what, ended, want)
	}
}
