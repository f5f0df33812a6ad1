package state

import (
	"errors"
	"os"
	"strings"
	"testing"

	"ckpt/e2e/harness"
)

// startMoved starts a program out of a directory of its own, the test's "old".
func startMoved(t *testing.T, user string) *harness.Subject {
	e := harness.New(t, user)
	e.Mkdir("old")
	code, err := os.ReadFile(harness.Program(t, "moved.c"))
	if err != nil {
		t.Fatal(err)
	}
	program := e.WriteFile("old/program", string(code))
	e.WriteFile("old/here", e.Join("old"))
	if err := os.Chmod(program, 0o755); err != nil {
		t.Fatal(err)
	}
	command := []string{"sh", "-c", "cd old && exec " + program + ` "$@"`, "sh"}
	if harness.AsRoot(user) {
		command = append(command, "root")
	}
	return e.Watch("moved", nil, command...)
}

// move moves a directory of the test's, and tells the program so.
func move(t *testing.T, e *harness.Env, from, to string) (arg string) {
	t.Helper()
	if err := os.Rename(e.Join(from), e.Join(to)); err != nil {
		t.Fatal(err)
	}
	e.WriteFile(to+"/here", e.Join(to))
	return e.Join(from) + "=" + e.Join(to)
}

// TestMoved: a program whose directory has moved, with all that it has open in
// it, its code, and its sockets, twice; the second time one part of it moves
// elsewhere.
func TestMoved(t *testing.T) {
	for _, user := range harness.Users() {
		t.Run("as "+user, func(t *testing.T) {
			s := startMoved(t, user)
			e := s.Env
			image := s.Image()
			s.Dump(image)
			moved := move(t, e, "old", "new")
			here := e.Join("old") + "/here=" + e.Join("new") + "/here"
			for _, c := range []struct {
				flags []string
				code  int
				says  string
			}{
				{nil, 1, e.Join("old") + "/program is gone since the dump: it was a file of "},
				{[]string{"--map", e.Join("old") + "=" + e.Join("neu")}, 1, e.Join("neu") + "/program is missing, to which " + e.Join("old") + "/program was to have moved: it was a file of "},
				{[]string{"--map", moved, "--map", here}, 2, "--map " + here + ": no file of the image is at " + e.Join("old") + "/here or below it"},
				{[]string{"--map", e.Join("ol") + "=" + e.Join("new")}, 2, "no file of the image is at " + e.Join("ol") + " or below it"},
			} {
				if r := e.Try(append([]string{"restore", image}, c.flags...)...); r.Code != c.code || !strings.Contains(r.Err, c.says) {
					t.Errorf("%q: want exit code %d and %q: %v", c.flags, c.code, c.says, r)
				}
			}
			if r := e.Try("check", image); r.Code != 3 {
				t.Errorf("want exit code 3: %v", r)
			}
			e.Run("check", image, "--map", moved)
			e.Restore(image, "", "--map", moved)
			s.Look()
			s.Generation() // it is there now
			s.Look()
			image = s.Image()
			s.Dump(image)
			if err := errors.Join(os.WriteFile(e.Join("new/data/file"), []byte("f has changed"), 0)); err != nil {
				t.Fatal(err)
			}
			moved = move(t, e, "new", "newer")
			if r := e.Try("restore", image, "--map", moved); r.Code != 1 || !strings.Contains(r.Err, e.Join("newer/data/file")+" changed since the dump: 4096 bytes then, 13 now") {
				t.Errorf("want a refusal: %v", r)
			}
			e.Restore(image, "", "--map", moved, "--allow-changed", e.Join("newer/data/file"))
			s.Look()
			s.Finish()
		})
	}
}
