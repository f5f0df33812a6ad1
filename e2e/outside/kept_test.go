package outside

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"ckpt/e2e/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// places are where the other end may be.
func places(t *testing.T, f func(t *testing.T, at place)) {
	t.Run("on another host", func(t *testing.T) { f(t, anotherHost(t, false)) })
	t.Run("on another host, IPv6", func(t *testing.T) { f(t, anotherHost(t, true)) })
	t.Run("on this host", func(t *testing.T) { f(t, thisHost()) })
}

// TestKept: a connection goes on through dumps and restores, and its other end
// hears nothing of them.
func TestKept(t *testing.T) {
	places(t, func(t *testing.T, at place) {
		for _, how := range []string{"listen", "connect"} {
			t.Run(how, func(t *testing.T) {
				e := harness.New(t, "")
				c, p, w := meet(t, at, how, program(e))
				p.ask("one", "1: ONE")
				c.Dump(e.Join("left"), "--tcp", "keep", "--leave-running")
				noTables(t, c.Name)
				p.ask("two", "2: TWO")
				n := 2
				for i := range 2 {
					image := e.Join(fmt.Sprintf("image%d", i))
					c.Dump(image, "--tcp", "keep")
					before, _ := w.seen()
					p.say(fmt.Sprintf("meanwhile %d\n", i))
					if after, _ := w.seen(); before != after {
						t.Errorf("%d packets come from a container that has ended", after-before)
					}
					e.Restore(image, "")
					n++
					p.hear(fmt.Sprintf("%d: MEANWHILE %d", n, i))
					n++
					p.ask("after", fmt.Sprintf("%d: AFTER", n))
				}
				noTables(t, c.Name)
				if _, ends := w.seen(); ends > 0 {
					t.Errorf("%d packets with FIN or RST have come", ends)
				}
				must(t, p.CloseWrite())
				c.Says(fmt.Sprintf("end %d", n))
			})
		}
	})
}

// saved takes the container through a dump and a restore.
func saved(c *harness.Container) {
	c.Env.T.Helper()
	image := c.Env.Join("image")
	c.Dump(image, "--tcp", "keep")
	c.Env.Restore(image, "")
}

// TestKeptQueues: what had arrived and was not read, and what was sent and had
// not arrived.
func TestKeptQueues(t *testing.T) {
	places(t, func(t *testing.T, at place) {
		const much = 8 << 20
		e := harness.New(t, "")
		c, p, _ := meet(t, at, "listen", program(e))
		p.say("stall\n")
		c.Says("stalled")
		sent := make(chan error, 1)
		go func() {
			_, err := io.Copy(p, io.MultiReader(strings.NewReader(fmt.Sprintf("take %d\n", much)), bytes.NewReader(pattern(much))))
			sent <- err
		}()
		saved(c)
		c.Kill("USR1")
		c.Says("taken True")
		must(t, <-sent)

		p.say(fmt.Sprintf("flood %d\n", much))
		c.Says("flooding")
		remove(t, e.Join("image"))
		saved(c)
		got := make([]byte, much)
		must(t, p.SetReadDeadline(time.Now().Add(patience)))
		if _, err := io.ReadFull(p.r, got); err != nil || !bytes.Equal(got, pattern(much)) {
			t.Fatalf("what the program had sent does not arrive: equal: %v, %v", bytes.Equal(got, pattern(much)), err)
		}
		p.ask("after", "4: AFTER")
	})
}

// TestKeptHalves: one end has said all, or both.
func TestKeptHalves(t *testing.T) {
	places(t, func(t *testing.T, at place) {
		const much = 300000
		t.Run("the other end's", func(t *testing.T) {
			e := harness.New(t, "")
			c, p, _ := meet(t, at, "listen", program(e))
			p.say("stall\n")
			c.Says("stalled")
			p.say("last\n")
			must(t, p.CloseWrite())
			saved(c)
			c.Kill("USR1")
			c.Says("end 2")
			p.hear("2: LAST")
		})
		t.Run("the program's", func(t *testing.T) {
			e := harness.New(t, "")
			c, p, _ := meet(t, at, "connect", program(e))
			p.say("shut\n")
			p.hearEnd()
			saved(c)
			p.say("note more\n")
			c.Says("note more")
			must(t, p.CloseWrite())
			c.Says("end 2")
		})
		t.Run("the program's, behind data", func(t *testing.T) {
			e := harness.New(t, "")
			c, p, _ := meet(t, at, "connect", program(e))
			must(t, p.SetReadBuffer(4096))
			p.say(fmt.Sprintf("flood %d\nshut\n", much))
			c.Says("shut")
			saved(c)
			got := make([]byte, much)
			if _, err := io.ReadFull(p.r, got); err != nil || !bytes.Equal(got, pattern(much)) {
				t.Fatalf("what the program had sent does not arrive: equal: %v, %v", bytes.Equal(got, pattern(much)), err)
			}
			p.hearEnd()
			must(t, p.CloseWrite())
			c.Says("end 2")
		})
		t.Run("both", func(t *testing.T) {
			e := harness.New(t, "")
			c, p, _ := meet(t, at, "listen", program(e))
			must(t, p.SetReadBuffer(4096))
			p.say(fmt.Sprintf("flood %d\nshut\nstall\nnote end\n", much))
			c.Says("stalled")
			must(t, p.CloseWrite())
			saved(c)
			got := make([]byte, much)
			if _, err := io.ReadFull(p.r, got); err != nil || !bytes.Equal(got, pattern(much)) {
				t.Fatalf("what the program had sent does not arrive: equal: %v, %v", bytes.Equal(got, pattern(much)), err)
			}
			p.hearEnd()
			c.Kill("USR1")
			c.Says("note end")
			c.Says("end 4")
		})
	})
}

// TestAdopted: a program that ckpt did not start.
func TestAdopted(t *testing.T) {
	at := anotherHost(t, false)
	e := harness.New(t, "")
	l, p, w := meet(t, at, "connect", func(args ...string) *harness.Launched {
		return e.Launch(true, append([]string{harness.Tool(t, "python3", "/usr/bin"), harness.Program(t, "outside.py")}, args...)...)
	})
	p.ask("one", "1: ONE")
	others := tables(t, "python3")
	l.Dump(e.Join("image"), "--tcp", "keep")
	p.say("two\n")
	e.Restore(e.Join("image"), name(e))
	p.hear("2: TWO")
	for _, table := range tables(t, "python3") {
		if !slices.Contains(others, table) {
			t.Errorf("nftables table %s is left", table)
		}
	}
	if _, ends := w.seen(); ends > 0 {
		t.Errorf("%d packets with FIN or RST have come", ends)
	}
}

// TestMapped: an IPv6 socket that speaks IPv4.
func TestMapped(t *testing.T) {
	e := harness.New(t, "")
	start := program(e)
	c, p, w := meet(t, anotherHost(t, false), "listen", func(args ...string) *harness.Container {
		args[1] = "::ffff:" + args[1]
		return start(args...)
	})
	p.ask("one", "1: ONE")
	p.say("stall\n")
	c.Says("stalled")
	must(t, p.CloseWrite())
	saved(c)
	if _, ends := w.seen(); ends > 0 {
		t.Errorf("%d packets with FIN or RST have come", ends)
	}
	c.Kill("USR1")
	c.Says("end 2")
}
