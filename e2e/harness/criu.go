package harness

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// criu is the directory that ci/criu.sh prints.
var criu = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("../../ci/criu.sh").Output()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("ci/criu.sh: %w\n%s", err, e.Stderr)
	}
	return strings.TrimSpace(string(out)), err
})

// CRIU gives the path of one of the programs that come with criu: criu, crit,
// checkpointctl. The first call may load them from Debian's mirror.
func CRIU(t testing.TB, program string) string {
	t.Helper()
	dir, err := criu()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "bin", program)
}
