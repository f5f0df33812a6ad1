package pidns

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"ckpt/failure"
)

func TestChainOf(t *testing.T) {
	for _, c := range []struct {
		ns    []int
		level int
		want  Chain
		outer VPID
		own   VPID
	}{
		{[]int{900, 5}, 1, Chain{5}, 5, 5},
		{[]int{900, 5, 3, 1}, 1, Chain{5, 3, 1}, 5, 1},
		{[]int{900}, 1, nil, 0, 0},            // outside
		{[]int{900, 0}, 1, nil, 0, 0},         // a session from outside
		{[]int{900, 5, 0}, 1, Chain{5}, 5, 5}, // a leader that lives above
		{[]int{900, 5}, 0, Chain{900, 5}, 900, 5},
	} {
		got := ChainOf(c.ns, c.level)
		if d := cmp.Diff(c.want, got); d != "" || got.Outer() != c.outer || got.Own() != c.own {
			t.Errorf("%v at level %d: %v, outer %d, own %d; %s", c.ns, c.level, got, got.Outer(), got.Own(), d)
		}
	}
}

func TestFindSpaces(t *testing.T) {
	members := []Member{
		{IDs: Chain{1}, Parent: -1},
		{IDs: Chain{2}, Parent: 0},
		{IDs: Chain{3, 1}, Parent: 1, Link: "a"},
		{IDs: Chain{4, 2}, Parent: 2, Link: "a"},
		{IDs: Chain{5, 3, 1}, Parent: 3, Link: "b"},
		{IDs: Chain{6, 4, 2}, Parent: 4, Link: "b"},
		{IDs: Chain{7, 5}, Parent: 2},            // a zombie that hides
		{IDs: Chain{8, 6}, Parent: 1, Link: "a"}, // came in from outside
		{IDs: Chain{9, 1}, Parent: 1, Link: "c"},
	}
	s, err := FindSpaces(members)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]VPID{1, 1, 3, 3, 5, 5, 3, 3, 9}, s.Of); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	for _, c := range []struct {
		space VPID
		level int
		at    VPID
	}{{5, 2, 5}, {5, 1, 3}, {5, 0, 1}, {3, 0, 1}, {9, 1, 9}} {
		if at := s.At(c.space, c.level); at != c.at {
			t.Errorf("at level %d around %d is %d, want %d", c.level, c.space, at, c.at)
		}
	}
	_, err = FindSpaces(append(members, Member{IDs: Chain{10, 5}, Parent: 1, Link: "d"}))
	if !errors.Is(err, failure.ErrUnsupported) || !strings.HasPrefix(err.Error(), "pid 10 lives in a pid namespace whose first process is out of sight") {
		t.Errorf("got %v", err)
	}
}

// nestedScript runs as vpid 1 and leaves a pid namespace below its own, with
// three processes, of which the last is in a session whose leader is gone.
const nestedScript = `unshare --pid --fork sh -c '
setsid sh -c "sleep 1000 >/dev/null &"
echo ready
exec cat'`

func TestReadNested(t *testing.T) {
	cmd := exec.Command("/bin/sh", "-c", nestedScript)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: unix.CLONE_NEWPID}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	if l, err := bufio.NewReader(out).ReadString('\n'); l != "ready\n" {
		t.Fatal(l, err)
	}
	table, err := Read(HostPID(cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	space := VPID(0)
	for _, r := range table.Rows() {
		if len(r.Nested) == 0 {
			continue
		}
		if r.Nested[0] == Init {
			space = r.ID
		}
		what := strconv.Itoa(int(r.Nested[0]))
		if r.Space != space {
			what += " elsewhere"
		}
		if r.Held() {
			what += " held"
		}
		got = append(got, what)
	}
	if d := cmp.Diff([]string{"1", "2 held", "3"}, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	saved := table.Identities(false)
	if err := table.Verify(saved); err != nil {
		t.Errorf("differs from itself: %v", err)
	}
	for _, w := range saved {
		if VPID(w.GetId()) != space {
			continue
		}
		w.Nested[0] = 7
		if err := table.Verify(saved); err == nil || !strings.Contains(err.Error(), "is [1] in the pid namespaces below, the image says [7]") {
			t.Errorf("got %v", err)
		}
		w.Nested[0], w.Namespace = 1, uint32(space)+1
		if err := table.Verify(saved); err == nil || !strings.Contains(err.Error(), "the image says in that of") {
			t.Errorf("got %v", err)
		}
	}
}
