package criu

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/e2e/harness"
)

// Trees of everyday programs go on where criu has stopped them, with the ids they
// had: threads, sessions and groups with leaders that are gone, zombies, jobs of a
// shell, pipelines.
func TestTrees(t *testing.T) {
	if os.Geteuid() != 0 {
		return // criu is root's
	}
	for _, p := range []struct {
		name    string
		command func(*harness.Env) []string
		who     []string
	}{
		{"branches", func(e *harness.Env) []string {
			return []string{harness.Tool(e.T, "python3", "/usr/bin"), harness.Program(e.T, "branches.py")}
		}, []string{"main", "session", "member", "thread", "group", "other", "left"}},
		{"bash", func(e *harness.Env) []string {
			return []string{harness.Tool(e.T, "bash"), harness.Program(e.T, "jobs.sh"), e.Mkdir("jobs")}
		}, []string{"main", "job1", "job2", "pipeline", "fifo"}},
	} {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			e := harness.New(t, "")
			// Its parent is of the tree, too, since the tree's own first process gets
			// another one.
			l := e.Launch(true, append([]string{"sh", "-c", `"$@" & wait`, "sh"}, p.command(e)...)...)
			var j harness.Journal // which compares the ids that they tell
			harness.GoesOn(t, l, &j, p.who...)
			dir := dumped(e, l.PID, "--link-remap", "--ghost-limit", "10M")
			if ws := l.Wait(); ws.Signal() != unix.SIGKILL {
				t.Errorf("it ended with status %v", ws)
			}
			c := restored{e.Restore(dir, "tree"), l}
			harness.GoesOn(t, c, &j, p.who...)
			c.Dump(e.Join("ours"))
			e.Restore(e.Join("ours"), "")
			harness.GoesOn(t, c, &j, p.who...)
		})
	}
}
