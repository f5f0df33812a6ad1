package sysv

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"ckpt/image"
	"ckpt/kernel"
)

// The bytes of the example segments: sizes that are not whole pages, and more
// than one batch of copying.
const (
	smallSize  = 10000
	sparseSize = 64<<20 + 1
)

// example fills the calling thread's ipc namespace.
func example(t *testing.T, root string) {
	t.Helper()
	get := func(nr uintptr, a, b, c int) int {
		t.Helper()
		id, _, e := unix.Syscall(nr, uintptr(a), uintptr(b), uintptr(c))
		if e != 0 {
			t.Fatal(e)
		}
		return int(id)
	}
	const made = unix.IPC_CREAT | unix.IPC_EXCL
	// An id that is not simply the index: the first one in its slot is removed.
	_, err := kernel.Shmctl(get(unix.SYS_SHMGET, 0x99, 10, made|0o600), unix.IPC_RMID, nil)
	check(t, err)

	var small int
	check(t, as(1234, 4321, func() error { small = get(unix.SYS_SHMGET, 0x1234, smallSize, made|0o640); return nil }))
	mem, err := kernel.ShmAttach(small, smallSize)
	check(t, err)
	copy(mem[5000:], "small")
	copy(mem[smallSize+50:], "behind the end") // on its last page all the same
	check(t, kernel.ShmDetach(mem))

	sparse := get(unix.SYS_SHMGET, unix.IPC_PRIVATE, sparseSize, made|0o604)
	mem, err = kernel.ShmAttach(sparse, sparseSize)
	check(t, err)
	copy(mem[32<<20+5:], "sparse")
	mem[sparseSize-1] = 'z'
	check(t, kernel.ShmDetach(mem))
	desc := make([]byte, shmSize)
	_, err = kernel.Shmctl(sparse, unix.IPC_STAT, desc)
	check(t, err)
	desc[permUID], desc[permGID] = 77, 78
	_, err = kernel.Shmctl(sparse, unix.IPC_SET, desc)
	check(t, err)

	removed := get(unix.SYS_SHMGET, 0x55, 4096, made|0o666)
	mem, err = kernel.ShmAttach(removed, 4096)
	check(t, err)
	copy(mem, "removed")
	_, err = kernel.Shmctl(removed, unix.IPC_RMID, nil)
	check(t, err)
	t.Cleanup(func() { _ = kernel.ShmDetach(mem) })

	sem := get(unix.SYS_SEMGET, 0x77, 3, made|0o660)
	_, err = kernel.Semctl(sem, kernel.SemSetAll, []byte{1, 0, 0xff, 0x7f, 0, 0})
	check(t, err)
	get(unix.SYS_SEMGET, 0x78, 4, made|0o600)

	q := get(unix.SYS_MSGGET, 0x88, made|0o622, 0)
	for i, text := range exampleMessages() {
		check(t, kernel.Msgsnd(q, int64(i+1), []byte(text)))
	}
	get(unix.SYS_MSGGET, unix.IPC_PRIVATE, made|0o600, 0)
	// Lower than what is there already.
	for path, v := range map[string]string{"msgmax": "4096", "msgmnb": "5000", "sem": "100 2000 30 400", "shmmni": "12"} {
		check(t, os.WriteFile(filepath.Join(root, "sys/kernel", path), []byte(v), 0))
	}
}

func exampleMessages() []string {
	return []string{"hello", "", strings.Repeat("x", 4000), "12345678"}
}

// shown is the namespace as /proc shows it to this thread, without times and
// pids; contents of segments, values and messages.
func shown(t *testing.T, root string) []string {
	t.Helper()
	var out []string
	for file, columns := range map[string][]int{"shm": {0, 1, 2, 3, 7, 8, 9, 10}, "sem": {0, 1, 2, 3, 4, 5, 6, 7}, "msg": {0, 1, 2, 3, 4, 7, 8, 9, 10}} {
		b, err := os.ReadFile(filepath.Join(root, "sysvipc", file))
		check(t, err)
		for _, line := range strings.Split(strings.TrimSpace(string(b)), "\n")[1:] {
			w := strings.Fields(line)
			row := file
			for _, c := range columns {
				row += " " + w[c]
			}
			out = append(out, row+" "+content(t, file, w))
		}
	}
	for _, path := range []string{"kernel/msgmax", "kernel/msgmnb", "kernel/sem", "kernel/shmmni", "kernel/shmmax", "kernel/shm_rmid_forced", "fs/mqueue/msg_max"} {
		b, err := os.ReadFile(filepath.Join(root, "sys", path))
		check(t, err)
		out = append(out, path+" "+strings.TrimSpace(string(b)))
	}
	return sorted(out)
}

// content is what stands in an object of which w are the columns.
func content(t *testing.T, file string, w []string) string {
	t.Helper()
	var id, n int
	_, err := fmt.Sscan(w[1]+" "+w[3], &id, &n)
	check(t, err)
	switch file {
	case "shm":
		mem, err := kernel.ShmAttach(id, uint64(n))
		check(t, err)
		defer kernel.ShmDetach(mem)
		return strings.Join(words(mem), ",")
	case "sem":
		b := make([]byte, 2*n)
		_, err := kernel.Semctl(id, kernel.SemGetAll, b)
		check(t, err)
		return fmt.Sprint(b)
	}
	text := ""
	for i := 0; ; i++ {
		kind, b, err := kernel.MsgrcvCopy(id, i, 4096)
		if errors.Is(err, unix.ENOMSG) {
			return text
		}
		check(t, err)
		text += fmt.Sprintf("%d:%.9s/%d ", kind, b, len(b))
	}
}

// words are the stretches of memory that are not zero, each with its place.
func words(mem []byte) (out []string) {
	for _, at := range []int{0, 5000, smallSize + 50, 32<<20 + 5, sparseSize - 1} {
		if at < len(mem) && mem[at] != 0 {
			out = append(out, fmt.Sprintf("%d:%s", at, mem[at:at+max(0, bytes.IndexByte(mem[at:], 0))]))
		}
	}
	return out
}

func TestRoundTrip(t *testing.T) { roundTrip(t, unix.CLONE_NEWNS|unix.CLONE_NEWIPC) }

// Without rights on the host segments are read another way.
func TestRoundTripInUserNamespace(t *testing.T) {
	roundTrip(t, unix.CLONE_NEWUSER|unix.CLONE_NEWNS|unix.CLONE_NEWIPC)
}

func roundTrip(t *testing.T, flags uintptr) {
	if !inside(t, flags) {
		return
	}
	runtime.LockOSThread()
	example(t, "/proc")
	before := shown(t, "/proc")
	nattch := attachments(t)
	b := newBox(t)
	dir := filepath.Join(t.TempDir(), "img")
	b.enterNamespace()
	check(t, b.dump(dir, dump))
	b.leaveNamespace()
	if d := cmp.Diff(before, shown(t, "/proc")); d != "" {
		t.Errorf("the dump changed something (-before +after):\n%s", d)
	}
	if d := cmp.Diff(nattch, attachments(t)); d != "" {
		t.Errorf("attachments are left (-before +after):\n%s", d)
	}

	in, err := image.Open(dir)
	check(t, err)
	defer in.Close()
	// Two pages, and those that looking at them has made (see words).
	if pages, err := image.PageRuns(in, fmt.Sprintf("shmem-%d", idOf(t, before, "shm", "604"))); err != nil || len(pages.Runs) < 2 || len(pages.Runs) > 4 {
		t.Errorf("of the sparse segment %v are saved: %v", pages.Runs, err)
	}
	k := Kind()
	b.enterNamespace()
	r := b.restore(in)
	check(t, k.Restore(r))
	check(t, k.Born(r))
	// A process of the container would now attach what is removed.
	gone := idOf(t, before, "shm", "1666")
	mem, err := kernel.ShmAttach(gone, 4096)
	check(t, err)
	check(t, k.Finish(r))
	if d := cmp.Diff(before, shown(t, "/proc")); d != "" {
		t.Errorf("what was restored differs (-saved +restored):\n%s", d)
	}
	check(t, kernel.ShmDetach(mem))
	if _, err := kernel.ShmAttach(gone, 4096); !errors.Is(err, unix.EINVAL) {
		t.Errorf("the removed segment lives on after its last detach: %v", err)
	}
	b.leaveNamespace()
}

func TestOwnNamespaceOnly(t *testing.T) {
	if !inside(t, unix.CLONE_NEWNS|unix.CLONE_NEWIPC) {
		return
	}
	runtime.LockOSThread()
	example(t, "/proc")
	b := newBox(t)
	dir := filepath.Join(t.TempDir(), "img")
	check(t, b.dump(dir, dump)) // init's namespace is ckpt's own
	in, err := image.Open(dir)
	check(t, err)
	defer in.Close()
	if in.Has(image.IPCShm, "1") || in.Has(image.IPCVar, "1") {
		t.Error("objects of the host were saved")
	}
	k := Kind()
	b.enterNamespace()
	check(t, k.Restore(b.restore(in)))
	check(t, k.Born(b.restore(in)))
	check(t, k.Finish(b.restore(in)))
	b.leaveNamespace()
}
