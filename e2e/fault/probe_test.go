package fault

import (
	"bufio"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"ckpt/e2e/harness"
)

// TestProbed: somebody outside has set a probe (uprobe) in the code of a program.
// One that has not been hit is told, too, and is no obstacle once it is gone.
func TestProbed(t *testing.T) {
	for function, says := range map[string]string{
		"never": "a breakpoint stands in its code at 0x",
		"each":  "a probe (uprobe) is set in the program, or was, and has been hit",
	} {
		t.Run(function, func(t *testing.T) {
			t.Parallel()
			e := harness.New(t, "")
			if !e.Root() {
				return // only root sets probes
			}
			c := e.Start("probed", nil, harness.Program(t, "prober.c"))
			var j harness.Journal
			counts(c, &j, "main")
			remove := setProbe(t, function, c.Ps().Processes[0].PID)
			counts(c, &j, "main")
			for _, args := range [][]string{{"check", c.Name}, {"dump", c.Name, e.Join("image")}} {
				r := e.Try(args...)
				if told := r.Out + r.Err; r.Code != 3 || !strings.Contains(told, says) || !strings.Contains(told, "tracing tool") {
					t.Errorf("want exit code 3, %q and a hint: %v", says, r)
				}
			}
			absent(e, e.Join("image"))
			counts(c, &j, "main")
			remove()
			if function != "never" {
				return
			}
			e.Run("dump", c.Name, e.Join("image"))
			e.Run("restore", e.Join("image"))
			counts(c, &j, "main")
		})
	}
}

// setProbe sets it at a function of e2e/program/prober.c in a process.
func setProbe(t *testing.T, function string, pid int) (remove func()) {
	cmd := exec.CommandContext(t.Context(), harness.Program(t, "prober.c"), function, strconv.Itoa(pid))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "set\n" {
		t.Fatalf("prober says %q, %v", line, err)
	}
	return func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
}
