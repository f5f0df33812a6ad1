package failure_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ckpt/failure"
)

func TestAll(t *testing.T) {
	a := failure.WithHint(failure.Unsupportedf("no a"), "drop a")
	b := failure.WithHint(failure.Unsupportedf("no b"), "drop b")
	for _, c := range []struct {
		name string
		err  error
		want []string // message and hints
	}{
		{"nothing", nil, nil},
		{"one", a, []string{"no a [drop a]"}},
		{"joined", errors.Join(a, errors.Join(b, errors.New("c"))), []string{"no a [drop a]", "no b [drop b]", "c []"}},
		{"reasons of one thing", &failure.Error{Doing: "dump", VPID: 2, What: "fd 3", Err: errors.Join(a, b), Hints: []string{"both"}},
			[]string{"dump pid 2: fd 3: no a [both drop a]", "dump pid 2: fd 3: no b [both drop b]"}},
		{"one reason", &failure.Error{What: "fd 3", Err: a}, []string{"fd 3: no a [drop a]"}},
		{"no reason", &failure.Error{What: "gone"}, []string{"gone []"}},
	} {
		var got []string
		for _, err := range failure.All(c.err) {
			got = append(got, fmt.Sprintf("%v %v", err, failure.Hints(err)))
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
	}
	if one := failure.All(errors.Join(a, b))[0]; !errors.Is(one, failure.ErrUnsupported) {
		t.Errorf("%v is not unsupported", one)
	}
}

func TestHintsOfErrno(t *testing.T) {
	few := fmt.Errorf("open it: %w", syscall.EMFILE)
	for _, c := range []struct {
		err  error
		want []string
	}{
		{few, []string{"allow ckpt more open files (ulimit -Hn)"}},
		{failure.WithHint(few, "wait"), []string{"wait"}},
		{failure.WithHint(failure.Mark(failure.ErrUnsupported, few), "wait"), []string{"wait"}},
		{&failure.Error{Err: few}, []string{"allow ckpt more open files (ulimit -Hn)"}},
		{syscall.EIO, nil},
		{failure.OnDisk(syscall.EIO, "/my disk/image"), []string{"the disk of '/my disk/image' fails, or cannot be reached any more (dmesg tells more): use another one, and do not trust what is there"}},
		{failure.OnDisk(syscall.EDQUOT, "/home/x"), []string{"remove something of yours from the file system of /home/x, have your quota there raised, or use another file system"}},
		{failure.OnDisk(syscall.EPERM, "/home/x"), nil},
		{&fs.PathError{Op: "write", Path: "/run/ckpt/a/log", Err: syscall.ENOSPC}, []string{"make room on the file system of /run/ckpt/a, or use another one"}},
		{&os.LinkError{Op: "rename", Old: "/run/ckpt/a/new", New: "/run/ckpt/a/state", Err: syscall.EIO}, []string{"the disk of /run/ckpt/a fails, or cannot be reached any more (dmesg tells more): use another one, and do not trust what is there"}},
		{&fs.PathError{Op: "read", Path: "/proc/1/mem", Err: syscall.EIO}, nil},
	} {
		if d := cmp.Diff(c.want, failure.Hints(c.err)); d != "" {
			t.Errorf("%v:\n%s", c.err, d)
		}
	}
}

func TestQuote(t *testing.T) {
	for word, want := range map[string]string{
		"":           "''",
		"./tonight":  "./tonight",
		"/srv/größe": "/srv/größe",
		"my job":     "'my job'",
		"it's":       `'it'\''s'`,
		"$HOME":      "'$HOME'",
		"~/img":      "'~/img'",
		"a\nb":       "'a\nb'",
	} {
		if got := failure.Quote(word); got != want {
			t.Errorf("%q: %s, want %s", word, got, want)
		}
	}
}

func TestWithoutPath(t *testing.T) {
	_, err := os.Open("/no/such")
	if got := failure.WithoutPath(fmt.Errorf("look: %w", err)); !errors.Is(got, syscall.ENOENT) || got.Error() != "no such file or directory" {
		t.Errorf("%v", got)
	}
	if other := errors.New("other"); failure.WithoutPath(other) != other {
		t.Error("another error is changed")
	}
}
