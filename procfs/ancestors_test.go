package procfs

import (
	"errors"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAncestors(t *testing.T) {
	got, err := Ancestors(os.Getpid())
	if err != nil || len(got) < 2 || got[0] != os.Getpid() || got[1] != os.Getppid() {
		t.Errorf("above %d, child of %d: %v (%v)", os.Getpid(), os.Getppid(), got, err)
	}
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if got, err := Ancestors(cmd.Process.Pid); !errors.Is(err, unix.ESRCH) {
		t.Errorf("above one that is gone: %v (%v)", got, err)
	}
}
