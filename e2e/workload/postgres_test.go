package workload

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"syscall"

	"ckpt/e2e/harness"
)

// postgresServer: tables that grow, seen by sessions that come and go, and
// one session inside the container that keeps a transaction open.
type postgresServer struct {
	server
	psql, dir string
	rows      int // committed
	open      int // inserted by the open transaction
	asked     int // questions to the session
}

func postgres(e *harness.Env) client {
	bin := "/usr/lib/postgresql/*/bin"
	initdb, psql := harness.Tool(e.T, "initdb", bin), harness.Tool(e.T, "psql", bin)
	p := &postgresServer{dir: e.Mkdir("pg"), psql: psql}
	data := e.Mkdir("pg/data")
	// The server refuses to run as root.
	var become []string
	setup := e.Command(context.Background(), initdb, "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	if e.Root() {
		uid, gid := harness.Lookup(e.T, "postgres")
		become = []string{harness.Tool(e.T, "setpriv"), fmt.Sprintf("--reuid=%d", uid), fmt.Sprintf("--regid=%d", gid), "--clear-groups"}
		setup.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		for _, d := range []string{p.dir, data} {
			if err := os.Chown(d, uid, gid); err != nil {
				e.T.Fatal(err)
			}
		}
	}
	if out, err := setup.CombinedOutput(); err != nil {
		e.T.Fatalf("initdb: %v\n%s", err, out)
	}
	fifo := p.dir + "/sql"
	if err := syscall.Mkfifo(fifo, 0o666); err != nil {
		e.T.Fatal(err)
	}
	if err := os.Chmod(fifo, 0o666); err != nil {
		e.T.Fatal(err)
	}
	e.Setenv("PGUSER", "postgres")
	p.server = server{e: e, command: append(become, harness.Tool(e.T, "sh"), harness.Program(e.T, "pg.sh"),
		harness.Tool(e.T, "postgres", bin), data, p.dir, psql)}
	return p
}

// sql runs a statement in a session of its own.
func (p *postgresServer) sql(q string) string {
	p.e.T.Helper()
	return strings.TrimSpace(p.run(q, p.psql, "-h", p.dir, "-d", "postgres", "-Atq", "-v", "ON_ERROR_STOP=1"))
}

// session has a statement run by the session inside, and returns what it says.
func (p *postgresServer) session(c *harness.Container, q string) string {
	p.e.T.Helper()
	p.asked++
	f, err := os.OpenFile(p.dir+"/sql", os.O_WRONLY, 0)
	if err != nil {
		p.e.T.Fatal(err)
	}
	begin, end := fmt.Sprintf("<%d>", p.asked), fmt.Sprintf("</%d>", p.asked)
	_, err = fmt.Fprintf(f, "\\echo %s\n%s\n\\echo %s\n", begin, q, end)
	f.Close()
	if err != nil {
		p.e.T.Fatal(err)
	}
	var said string
	harness.Eventually(p.e.T, "an answer to "+q, func() error {
		_, after, _ := strings.Cut(c.Log(), begin+"\n")
		var ok bool
		said, _, ok = strings.Cut(after, end+"\n")
		if !ok {
			return orAlive(c.Alive())
		}
		return nil
	})
	return strings.TrimSpace(said)
}

func (p *postgresServer) Ready(c *harness.Container) {
	p.e.T.Helper()
	if got := p.session(c, "create table t (i int primary key, s text); create table u (i int); begin; select 17;"); got != "17" {
		p.e.T.Fatalf("postgres answers %q", got)
	}
	p.quiet(c)
	p.forget(c)
}

// forget has the server's shared memory go with the test, in which it is killed: only
// a server that is told to stop removes it.
func (p *postgresServer) forget(c *harness.Container) {
	p.e.T.Helper()
	named := regexp.MustCompile(`/dev/shm/PostgreSQL\.[0-9]+`)
	seen := map[string]bool{}
	for _, q := range c.Ps().Processes {
		maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", q.PID))
		if err != nil {
			p.e.T.Fatal(err)
		}
		for _, path := range named.FindAllString(string(maps), -1) {
			seen[path] = true
		}
	}
	if len(seen) == 0 {
		p.e.T.Fatal("postgres has no shared memory")
	}
	p.e.T.Cleanup(func() {
		for path := range seen {
			if err := os.Remove(path); err != nil {
				p.e.T.Error(err)
			}
		}
	})
}

// quiet waits until only the server's own processes and the session are
// left: a session that has just ended would be one id too many.
func (p *postgresServer) quiet(c *harness.Container) {
	p.e.T.Helper()
	harness.Eventually(p.e.T, "sessions are gone", func() error {
		if n := p.sql("select count(*) from pg_stat_activity where backend_type in ('client backend', 'autovacuum worker')"); n != "2" {
			return fmt.Errorf("%s sessions, this one and the open one included", n)
		}
		had := len(c.Ps().Processes)
		// sh, the session, and the server with its five helpers and the
		// session's backend
		if had != 9 {
			return fmt.Errorf("%d processes", had)
		}
		return nil
	})
}

func (p *postgresServer) Work(c *harness.Container) {
	p.e.T.Helper()
	p.sql(fmt.Sprintf("insert into t select i, repeat('row ' || i, 20) from generate_series(%d, %d) i", p.rows+1, p.rows+1000))
	p.rows += 1000
	p.open += 10
	if got := p.session(c, "insert into u select generate_series(1, 10); select count(*) from u;"); got != fmt.Sprint(p.open) {
		p.e.T.Fatalf("the open transaction has %s rows instead of %d", got, p.open)
	}
	p.quiet(c)
}

func (p *postgresServer) Check(c *harness.Container) {
	p.e.T.Helper()
	want := fmt.Sprintf("%d|%d|%d", p.rows, p.rows*(p.rows+1)/2, p.rows)
	if got := p.sql("select count(*), sum(i), count(*) filter (where s = repeat('row ' || i, 20)) from t"); got != want {
		p.e.T.Fatalf("postgres: table t has %s instead of %s", got, want)
	}
	// What the open transaction did, it alone can see; then all can.
	if got := p.sql("select count(*) from u"); got != "0" {
		p.e.T.Fatalf("%s rows of an open transaction are seen", got)
	}
	if got := p.session(c, "select count(*) from u;"); got != fmt.Sprint(p.open) {
		p.e.T.Fatalf("the open transaction has %s rows instead of %d", got, p.open)
	}
	p.quiet(c)
}

func (p *postgresServer) Dumped(*harness.Container) {}

func (p *postgresServer) Copy() client {
	c := *p
	return &c
}
