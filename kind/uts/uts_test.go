package uts

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/utsns"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/pidns"
)

func TestParse(t *testing.T) {
	b := make([]byte, fieldSize*fields)
	copy(b, "Linux")
	copy(b[nodeField*fieldSize:], "box")
	copy(b[domainField*fieldSize:], strings.Repeat("d", fieldSize)) // as long as can be
	want := &utsns.UtsnsEntry{Nodename: proto.String("box"), Domainname: proto.String(strings.Repeat("d", fieldSize))}
	if d := cmp.Diff(want, parse(b), protocmp.Transform()); d != "" {
		t.Error(d)
	}
}

// saved is an image with this entry.
func saved(t *testing.T, e *utsns.UtsnsEntry) *image.Reader {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "img")
	w, err := image.Create(dir, image.Options{})
	check(t, err)
	if e != nil {
		check(t, w.Add(image.UTSNS, "1", e))
	}
	check(t, w.Commit(&image.Manifest{}))
	r, err := image.Open(dir)
	check(t, err)
	t.Cleanup(func() { r.Close() })
	return r
}

func names(t *testing.T) (node, domain string) {
	t.Helper()
	var u unix.Utsname
	check(t, unix.Uname(&u))
	return unix.ByteSliceToString(u.Nodename[:]), unix.ByteSliceToString(u.Domainname[:])
}

func TestRestore(t *testing.T) {
	if !inside(t) {
		return
	}
	runtime.LockOSThread()
	for _, want := range [][2]string{{"box", "(none)"}, {strings.Repeat("x", 64), ""}, {"", "dom.example"}} {
		in := saved(t, &utsns.UtsnsEntry{Nodename: &want[0], Domainname: &want[1]})
		check(t, Kind().Restore(&kind.Restore{In: in}))
		if node, domain := names(t); node != want[0] || domain != want[1] {
			t.Errorf("restored %q %q, want %q", node, domain, want)
		}
	}
	check(t, Kind().Restore(&kind.Restore{In: saved(t, nil)})) // none saved
	in := saved(t, &utsns.UtsnsEntry{Nodename: proto.String(strings.Repeat("x", 65)), Domainname: proto.String("")})
	if err := Kind().Restore(&kind.Restore{In: in}); !errors.Is(err, failure.ErrDamaged) {
		t.Errorf("a name of 65 bytes: %v", err)
	}
}

// A name that is the host's own stays out of the image.
func TestSharedNamespace(t *testing.T) {
	d := &kind.Dump{Log: slog.New(slog.DiscardHandler), Home: pidns.HostPID(os.Getpid())}
	check(t, Kind().Dump(d)) // would panic without Out and Inside
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// inside runs the calling test again in a uts namespace of its own and tells
// whether this is that run.
func inside(t *testing.T) bool {
	t.Helper()
	const env = "CKPT_TEST_INSIDE"
	if os.Getenv(env) == t.Name() {
		return true
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), env+"="+t.Name())
	id := func(host int) []syscall.SysProcIDMap { return []syscall.SysProcIDMap{{HostID: host, Size: 1}} }
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWUTS, Pdeathsig: unix.SIGKILL,
		UidMappings: id(os.Geteuid()), GidMappings: id(os.Getegid())}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("in a uts namespace: %v\n%s", err, bytes.TrimSpace(out))
	}
	return false
}
