package criu

import (
	"context"
	"fmt"
	"os"
	"testing"

	"ckpt/e2e/harness"
)

// restored is a container that goes on writing where the program did before.
type restored struct {
	*harness.Container
	from *harness.Launched
}

func (r restored) Log() string { return r.from.Log() }

// dumped saves a process and all below it as criu does.
func dumped(t *testing.T, l *harness.Launched, flags ...string) (dir string) {
	t.Helper()
	dir = l.Env.Mkdir("theirs")
	args := append([]string{"dump", "--tree", fmt.Sprint(l.PID), "--images-dir", dir, "--log-file", "dump.log"}, flags...)
	if out, err := l.Env.Command(context.Background(), harness.CRIU(t, "criu"), args...).CombinedOutput(); err != nil {
		log, _ := os.ReadFile(dir + "/dump.log")
		t.Fatalf("criu dump: %v\n%s%s", err, out, log)
	}
	return dir
}

// What criu has saved, ckpt brings back as it was. The programs are those in
// which there is nothing that criu refuses or does not save.
func TestStateOfTheirs(t *testing.T) {
	if os.Geteuid() != 0 {
		return // criu takes root
	}
	for _, p := range []struct {
		source string
		args   []string
	}{
		{source: "registers.c"},
		{source: "locks.c"},
		{source: "handlers.c", args: []string{"catch"}},
		{source: "cputime.c"},
		{source: "limits.c"},
		{source: "vdso.c", args: []string{"moved"}},
		{source: "leases.c"},
		{source: "keys.c"},
	} {
		t.Run(fmt.Sprint(p.source, p.args), func(t *testing.T) {
			t.Parallel()
			e := harness.New(t, "")
			e.Setenv("CKPT_E2E_ADOPTED", "1")
			l := e.Launch(true, append([]string{harness.Program(t, p.source)}, p.args...)...)
			looks := 0
			look := func(at interface {
				harness.Speaker
				Kill(string)
			}) {
				looks++
				at.Kill("USR1")
				harness.Says(t, at, fmt.Sprintf("good %d", looks))
			}
			harness.Says(t, l, "ready")
			look(l)
			c := restored{e.Restore(dumped(t, l, "--file-locks"), "state"), l}
			look(c)
			c.Dump(e.Join("again"))
			e.Restore(e.Join("again"), "")
			look(c)
			c.Kill("USR2")
			harness.Says(t, c, "done")
		})
	}
}
