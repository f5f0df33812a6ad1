package workload

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"ckpt/e2e/harness"
)

// program is the client of a program of e2e/program, which tells its steps.
type program struct {
	e       *harness.Env
	command []string
	who     []string // whose steps must go on
	// quiet is a port that must have no connection at a dump; 0: none.
	quiet int
	// put puts something in that the steps of whose counts; sum is what is in then.
	put     func(c *harness.Container) error
	counter string
	sum     int
	journal *harness.Journal
}

func (p *program) Command() []string { return p.command }

func (p *program) Copy() client {
	c := *p
	c.journal = p.journal.Clone()
	c.journal.Rewind()
	return &c
}

// Ready: everyone has taken a few steps.
func (p *program) Ready(c *harness.Container) { p.goesOn(c) }

func (p *program) Work(c *harness.Container) {
	p.e.T.Helper()
	if err := p.put(c); err != nil {
		p.e.T.Fatal(err)
	}
	p.sum++
	if p.quiet != 0 {
		harness.Quiet(p.e.T, p.quiet)
	}
}

// Dumped reads the steps up to the dump.
func (p *program) Dumped(c *harness.Container) {
	p.e.T.Helper()
	if err := p.journal.Read(c.Log()); err != nil {
		p.e.T.Fatal(err)
	}
}

func (p *program) Check(c *harness.Container) {
	p.e.T.Helper()
	p.goesOn(c)
	harness.Eventually(p.e.T, p.e.T.Name()+": all that was put in", func() error {
		if err := p.journal.Read(c.Log()); err != nil {
			p.e.T.Fatal(err)
		}
		if got := p.journal.Last(p.counter).Count; got != p.sum {
			return fmt.Errorf("%d instead of %d", got, p.sum)
		}
		return c.Alive()
	})
}

// goesOn waits until everyone has taken three more steps.
func (p *program) goesOn(c *harness.Container) {
	p.e.T.Helper()
	var from map[string]int
	harness.Eventually(p.e.T, p.e.T.Name()+": steps go on", func() error {
		if err := p.journal.Read(c.Log()); err != nil {
			p.e.T.Fatal(err)
		}
		if from == nil {
			from = map[string]int{}
			for _, who := range p.who {
				from[who] = p.journal.Last(who).N
			}
		}
		for _, who := range p.who {
			if n := p.journal.Last(who).N; n < from[who]+3 {
				return fmt.Errorf("%s stands at step %d, %w", who, n, orAlive(c.Alive()))
			}
		}
		return nil
	})
}

func orAlive(err error) error {
	if err == nil {
		return fmt.Errorf("though the container runs")
	}
	return err
}

func signalled(c *harness.Container) error {
	c.Kill("USR1")
	return nil
}

func words(s string) []string { return strings.Fields(s) }

func python(e *harness.Env) client {
	data := e.WriteFile("data", strings.Repeat("0123456789", 700)+"end")
	return &program{e: e, journal: new(harness.Journal), put: signalled, counter: "main",
		who:     words("main producer consumer sockets child memory"),
		command: []string{harness.Tool(e.T, "python3", "/usr/bin"), harness.Program(e.T, "threads.py"), data}}
}

func goProgram(e *harness.Env) client {
	return &program{e: e, journal: new(harness.Journal), put: signalled, counter: "main",
		who: words("main heap ring timers pipes"), command: []string{harness.Program(e.T, "gcload")}}
}

func bash(e *harness.Env) client {
	return &program{e: e, journal: new(harness.Journal), put: signalled, counter: "main",
		who:     words("main job1 job2 pipeline fifo"),
		command: []string{harness.Tool(e.T, "bash"), harness.Program(e.T, "jobs.sh"), e.Mkdir("jobs")}}
}

func family(e *harness.Env) client {
	return &program{e: e, journal: new(harness.Journal), put: signalled, counter: "main",
		who:     words("main turns0 turns1 pinger sysv reader caller watcher orphan member events timer"),
		command: []string{harness.Program(e.T, "family.c"), e.Mkdir("family")}}
}

func signals(e *harness.Env) client {
	return &program{e: e, journal: new(harness.Journal), put: signalled, counter: "main",
		who: words("main one many"), command: []string{harness.Program(e.T, "signals.c")}}
}

func node(e *harness.Env) client {
	port := harness.Port(e.T)
	data := e.WriteFile("data", strings.Repeat("0123456789", 1000))
	return &program{e: e, journal: new(harness.Journal), counter: "interval", quiet: port,
		who:     words("interval timeout pool child heap"),
		command: []string{harness.Tool(e.T, "node"), harness.Program(e.T, "server.js"), strconv.Itoa(port), data},
		put: func(*harness.Container) error {
			var answer struct{ Sum, PID, Kept int }
			body, err := get(fmt.Sprintf("http://127.0.0.1:%d/add?n=1", port))
			if err == nil {
				err = json.Unmarshal([]byte(body), &answer)
			}
			if err == nil && answer.Kept != 20000 {
				err = fmt.Errorf("node keeps %d things", answer.Kept)
			}
			return err
		}}
}

// get fetches a page over a connection of its own.
func get(url string) (string, error) {
	h := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := h.Get(url)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, r.Status)
	}
	return string(b), err
}

func java(e *harness.Env) client {
	port := harness.Port(e.T)
	// As many threads of the collector and the compiler from the start as
	// there will ever be: which of them exist is compared.
	return &program{e: e, journal: new(harness.Journal), counter: "timer", quiet: port,
		who: words("worker0 worker8 worker16 heap timer"),
		command: []string{harness.Tool(e.T, "java"), "-Xmx128m", "-XX:+UseG1GC", "-XX:-UseDynamicNumberOfGCThreads",
			"-XX:-UseDynamicNumberOfCompilerThreads", "-cp", harness.Program(e.T, "Load.java"), "Load", strconv.Itoa(port)},
		put: func(*harness.Container) error {
			_, err := ask(port, "add 1\n")
			return err
		}}
}

// ask says something to a TCP server and returns the line it answers.
func ask(port int, say string) (string, error) {
	conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), 20*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return "", err
	}
	if _, err := conn.Write([]byte(say)); err != nil {
		return "", err
	}
	return bufio.NewReader(conn).ReadString('\n')
}
