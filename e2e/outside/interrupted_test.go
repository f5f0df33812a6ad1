package outside

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"ckpt/e2e/harness"
)

// TestInterrupted: whenever a dump is stopped or killed, the connection goes on,
// at once or with the image that has become of it.
func TestInterrupted(t *testing.T) {
	const megabytes = 200
	e := harness.New(t, "")
	c, p, w := meet(t, anotherHost(t, false), "listen", func(args ...string) *harness.Container {
		return program(e)(append(args, fmt.Sprint(megabytes))...)
	})
	n := 1
	p.ask("on", fmt.Sprintf("%d: ON", n))
	var work time.Duration
	for range 2 { // the first finds the page cache cold
		begin := time.Now()
		c.Dump(e.Join("whole"), "--tcp", "keep", "--leave-running")
		work = time.Since(begin)
		remove(t, e.Join("whole"))
	}
	const instants = 12
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		for i := range instants {
			image := e.Join("image")
			cmd := e.Command(context.Background(), harness.Ckpt(), "dump", c.Name, image, "--tcp", "keep")
			must(t, cmd.Start())
			after := 2 * work * time.Duration(i) / instants
			timer := time.AfterFunc(after, func() { cmd.Process.Signal(sig) })
			cmd.Wait()
			timer.Stop()
			_, err := os.Lstat(image)
			t.Logf("%v after %v of %v: exit code %d, image: %v", sig, after, work, cmd.ProcessState.ExitCode(), err == nil)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			if sig != syscall.SIGKILL && err != nil {
				noTables(t, c.Name)
			}
			p.say("on\n")
			restored := false
			harness.Eventually(t, "it goes on", func() error {
				if p.heard() {
					return nil
				}
				// One that was killed at the very end may still be ending.
				if !restored && strings.Contains(e.Try("ps", c.Name, "--json").Out, `"dumped"`) {
					restored = true
					must(t, err)
					e.Try("wait", c.Name) // gives the status of a program that was killed
					e.Restore(image, "")
				}
				return errors.New("nothing is heard")
			})
			n++
			p.hear(fmt.Sprintf("%d: ON", n))
			remove(t, image)
			if sig == syscall.SIGKILL {
				remove(t, image+".partial")
			}
		}
	}
	c.Dump(e.Join("last"), "--tcp", "keep", "--leave-running")
	noTables(t, c.Name)
	if _, ends := w.seen(); ends > 0 {
		t.Errorf("%d packets with FIN or RST have come", ends)
	}
}

// TestRestoreInterrupted: a restore that is killed leaves the other end in
// peace, and the next one brings the connection back.
func TestRestoreInterrupted(t *testing.T) {
	at := anotherHost(t, false)
	e := harness.New(t, "")
	c, p, w := meet(t, at, "listen", program(e))
	n := 0
	goesOn := func() {
		t.Helper()
		n++
		p.hear(fmt.Sprintf("%d: ON", n))
	}
	image := e.Join("image")
	c.Dump(image, "--tcp", "keep")
	p.say("on\n")
	begin := time.Now()
	e.Restore(image, "")
	work := time.Since(begin)
	goesOn()
	const instants = 10
	for i := range instants {
		remove(t, image)
		c.Dump(image, "--tcp", "keep")
		p.say("on\n")
		cmd := e.Command(context.Background(), harness.Ckpt(), "restore", image)
		must(t, cmd.Start())
		after := 3 * work * time.Duration(i) / (2 * instants)
		killed := make(chan struct{})
		timer := time.AfterFunc(after, func() {
			defer close(killed)
			cmd.Process.Kill()
			for _, q := range e.Processes() {
				if strings.Contains(q.Command, " supervise ") {
					syscall.Kill(q.PID, syscall.SIGKILL)
				}
			}
		})
		cmd.Wait()
		if !timer.Stop() {
			<-killed
		}
		running := true
		harness.Eventually(t, "it goes on, or has ended", func() error {
			if running = c.Ps().State == "running"; running && !p.heard() {
				return errors.New("it runs, and says nothing")
			}
			return nil
		})
		t.Logf("after %v of %v: exit code %d, running: %v", after, work, cmd.ProcessState.ExitCode(), running)
		if _, ends := w.seen(); ends > 0 {
			t.Fatalf("%d packets with FIN or RST have come", ends)
		}
		if !running {
			harness.Eventually(t, "the name is free, and the container is back", func() error {
				if left := e.Processes(); len(left) > 0 {
					return fmt.Errorf("not ended yet: %v", left)
				}
				switch r := e.Try("restore", image); {
				case r.Code == 0:
					return nil
				case r.Code == 5, strings.Contains(r.Err, "address already in use"): // who is still ending has the name, or the port
					return fmt.Errorf("%v", r)
				default:
					return harness.Final{Err: fmt.Errorf("%v", r)}
				}
			})
		}
		goesOn()
	}
	noTables(t, c.Name)
}
