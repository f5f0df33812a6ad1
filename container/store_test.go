package container

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"ckpt/failure"
)

// live is a process that stands for vpid 1 of a container; end ends it and
// waits for it.
func live(t *testing.T) (pid int, end func()) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("cat")
	cmd.Stdin = r
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r.Close()
	done := false
	end = func() {
		if !done {
			done = true
			w.Close()
			cmd.Wait()
		}
	}
	t.Cleanup(end)
	return cmd.Process.Pid, end
}

func claimed(t *testing.T, s *Store, name string, pid int) *claim {
	t.Helper()
	cl, err := s.claim(name, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := cl.commit(Record{Name: name, Command: []string{"x"}, Init: pid, MainVPID: 2}); err != nil {
		t.Fatal(err)
	}
	if err := cl.running(); err != nil {
		t.Fatal(err)
	}
	return cl
}

func wantState(t *testing.T, s *Store, name string, want State) *Container {
	t.Helper()
	c, err := s.Get(name)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.State(); got != want || err != nil {
		t.Fatalf("%s is %s (%v), want %s", name, got, err, want)
	}
	return c
}

func TestLifeOfAnEntry(t *testing.T) {
	s := NewStore(t.TempDir())
	if _, err := s.Get("a"); !errors.Is(err, failure.ErrNoContainer) {
		t.Fatalf("an empty store has a: %v", err)
	}
	pid, end := live(t)
	cl := claimed(t, s, "a", pid)
	c := wantState(t, s, "a", Running)
	if sup, err := c.Supervised(); !sup || err != nil {
		t.Fatalf("not supervised: %v", err)
	}
	if _, err := s.claim("a", false); !errors.Is(err, failure.ErrNameTaken) {
		t.Fatalf("claimed twice: %v", err)
	}

	// the supervisor crashes: the container is still there and so is its name
	cl.lock.Close()
	wantState(t, s, "a", Running)
	if sup, err := c.Supervised(); sup || err != nil {
		t.Fatalf("supervised: %v", err)
	}
	if _, err := s.claim("a", false); !errors.Is(err, failure.ErrNameTaken) {
		t.Fatalf("claimed while it lives: %v", err)
	}
	if err := c.Remove(t.Context(), false); err == nil {
		t.Fatal("removed while it lives")
	}
	if err := c.MarkDumped("/img"); err != nil {
		t.Fatal(err)
	}
	wantState(t, s, "a", Running)
	end()
	wantState(t, s, "a", Dumped)

	// another takes the name, and fails: the dumped one stays
	cl, err := s.claim("a", false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.claim("a", false); !errors.Is(err, failure.ErrNameTaken) {
		t.Fatalf("claimed while another starts: %v", err)
	}
	if err := cl.undo(); err != nil {
		t.Fatal(err)
	}
	wantState(t, s, "a", Dumped)

	// and takes it for good
	pid, end = live(t)
	cl = claimed(t, s, "a", pid)
	wantState(t, s, "a", Running)
	end()
	wantState(t, s, "a", Exited)
	cl.lock.Close()
	if err := c.Remove(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(c.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("something is left: %v", err)
	}
}

// A claim that fails leaves nothing of a name that was free.
func TestUndoFreshClaim(t *testing.T) {
	s := NewStore(t.TempDir())
	cl, err := s.claim("a", true)
	if err != nil {
		t.Fatal(err)
	}
	if cs, err := s.List(); len(cs) != 0 || err != nil {
		t.Fatalf("listed before it is there: %v %v", cs, err)
	}
	if err := cl.undo(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(s.Dir(), "a")); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("something is left: %v", err)
	}
}

// The log starts anew with a start and goes on with a restore.
func TestLogOfClaims(t *testing.T) {
	s := NewStore(t.TempDir())
	for i, c := range []struct {
		keep bool
		text string
		want string
	}{{false, "one", "one"}, {true, "two", "onetwo"}, {false, "three", "three"}} {
		cl, err := s.claim("a", c.keep)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(cl.log, c.text)
		pid, end := live(t)
		if err := cl.commit(Record{Name: "a", Init: pid}); err != nil {
			t.Fatal(err)
		}
		end()
		if err := cl.running(); err != nil {
			t.Fatal(err)
		}
		cl.lock.Close()
		b, err := os.ReadFile(cl.c.Log())
		if string(b) != c.want || err != nil {
			t.Errorf("%d: %q (%v), want %q", i, b, err, c.want)
		}
	}
}

// A pid that was given away again, or another boot, is not the container.
func TestNotTheSameProcess(t *testing.T) {
	s := NewStore(t.TempDir())
	pid, _ := live(t)
	cl := claimed(t, s, "a", pid)
	for _, change := range []func(*Record){
		func(r *Record) { r.InitStart++ },
		func(r *Record) { r.BootID = "another" },
		func(r *Record) { r.Init = 0 },
	} {
		r := cl.c.Record
		change(&r)
		if err := writeJSON(cl.c.file(recordFile), r); err != nil {
			t.Fatal(err)
		}
		c := wantState(t, s, "a", Exited)
		if ps, err := c.Processes(); len(ps) != 0 || err != nil {
			t.Errorf("it has processes: %v %v", ps, err)
		}
		if err := c.Kill(9); err == nil {
			t.Error("it was killed")
		}
	}
}

func TestDumpLock(t *testing.T) {
	s := NewStore(t.TempDir())
	pid, _ := live(t)
	c := claimed(t, s, "a", pid).c
	l, err := c.DumpLock()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.DumpLock(); err == nil || err.Error() != "a is being dumped" {
		t.Fatalf("a second dump: %v", err)
	}
	l.Close()
	if l, err = c.DumpLock(); err != nil {
		t.Fatal(err)
	}
	l.Close()
}

// Who waits for the end of a supervisor can be interrupted.
func TestSettleInterrupted(t *testing.T) {
	s := NewStore(t.TempDir())
	pid, _ := live(t)
	cl := claimed(t, s, "a", pid)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := cl.c.settle(ctx); !errors.Is(err, failure.ErrInterrupted) {
		t.Errorf("waits for a supervisor that lives: %v", err)
	}
	cl.lock.Close()
	if err := cl.c.settle(ctx); err != nil {
		t.Errorf("the supervisor has ended: %v", err)
	}
}

// A name that was used again is not what was waited for.
func TestReloadAnother(t *testing.T) {
	s := NewStore(t.TempDir())
	pid, end := live(t)
	old := claimed(t, s, "a", pid)
	end()
	old.lock.Close()
	pid, _ = live(t)
	claimed(t, s, "a", pid)
	if err := old.c.Reload(); !errors.Is(err, ErrSaved) {
		t.Errorf("reloaded: %v", err)
	}
	if _, err := old.c.Wait(t.Context()); !errors.Is(err, ErrSaved) {
		t.Errorf("waited: %v", err)
	}
}

func TestStateDir(t *testing.T) {
	tmp := t.TempDir()
	uid := os.Geteuid()
	env := func(kv map[string]string) func(string) string { return func(k string) string { return kv[k] } }
	want := filepath.Join(tmp, "a", "b")
	got, err := StateDir(env(map[string]string{"CKPT_STATE": want}), uid, true)
	if got != want || err != nil {
		t.Fatalf("%s %v", got, err)
	}
	if fi, err := os.Stat(want); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("made as %v (%v)", fi.Mode(), err)
	}
	if got := userDir(tmp, uid); got != filepath.Join(tmp, "ckpt") {
		t.Errorf("XDG_RUNTIME_DIR: %s", got)
	}
	if got := userDir(tmp, uid+1); got != "/tmp/ckpt-"+itoa(uid+1) {
		t.Errorf("another user's XDG_RUNTIME_DIR: %s", got)
	}

	none := filepath.Join(tmp, "none")
	if got, err := StateDir(env(map[string]string{"CKPT_STATE": none}), uid, false); got != none || err != nil {
		t.Errorf("not needed: %s %v", got, err)
	}
	if cs, err := NewStore(none).List(); len(cs) != 0 || err != nil {
		t.Errorf("listed %v %v", cs, err)
	}
	bad := filepath.Join(tmp, "open")
	if err := os.Mkdir(bad, 0o700); err != nil {
		t.Fatal(err)
	}
	os.Chmod(bad, 0o777)
	link := filepath.Join(tmp, "link")
	os.Symlink(want, link)
	for dir, uid := range map[string]int{bad: uid, link: uid, want: uid + 1} {
		if _, err := StateDir(env(map[string]string{"CKPT_STATE": dir}), uid, true); err == nil || len(failure.Hints(err)) == 0 {
			t.Errorf("%s for uid %d: %v", dir, uid, err)
		}
	}
}
