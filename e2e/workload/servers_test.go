package workload

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"ckpt/e2e/harness"
)

// server is what the clients of all network servers have in common.
type server struct {
	e       *harness.Env
	port    int
	command []string
	up      func() error
}

func (s *server) Command() []string { return s.command }

func (s *server) Ready(c *harness.Container) {
	s.e.T.Helper()
	harness.Eventually(s.e.T, s.e.T.Name()+": server is up", func() error {
		if err := s.up(); err != nil {
			return fmt.Errorf("%w; %w", err, orAlive(c.Alive()))
		}
		return nil
	})
	harness.Quiet(s.e.T, s.port)
}

func (s *server) Dumped(*harness.Container) {}

// run runs a client program, which reads stdin, and returns what it says.
func (s *server) run(stdin string, name string, args ...string) string {
	s.e.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := s.e.Command(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.e.T.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

// redisServer: strings, counters, lists and hashes, compared key by key.
type redisServer struct {
	server
	cli   string
	keys  map[string]string
	round int
}

func redis(e *harness.Env) client {
	port := harness.Port(e.T)
	r := &redisServer{cli: harness.Tool(e.T, "redis-cli"), keys: map[string]string{}}
	r.server = server{e: e, port: port, up: r.ping, command: []string{harness.Tool(e.T, "redis-server"),
		"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", e.Dir}}
	return r
}

func (r *redisServer) ping() error {
	answer, err := ask(r.port, "PING\r\n")
	if err == nil && strings.TrimSpace(answer) != "+PONG" {
		err = fmt.Errorf("redis says %q", answer)
	}
	return err
}

func (r *redisServer) do(commands string) []string {
	r.e.T.Helper()
	out := r.run(commands, r.cli, "-h", "127.0.0.1", "-p", strconv.Itoa(r.port))
	harness.Quiet(r.e.T, r.port)
	return strings.Split(strings.TrimSuffix(out, "\n"), "\n")
}

func (r *redisServer) Work(*harness.Container) {
	r.e.T.Helper()
	r.round++
	var b strings.Builder
	for i := range 300 {
		key, value := fmt.Sprintf("key:%d:%d", r.round, i), strings.Repeat(fmt.Sprintf("%d-%d.", r.round, i), 50)
		r.keys[key] = value
		fmt.Fprintf(&b, "SET %s %s\nINCR count\nRPUSH list %d\nHSET hash %s %d\n", key, value, i, key, i)
	}
	for i, line := range r.do(b.String()) {
		if strings.Contains(line, "ERR") {
			r.e.T.Fatalf("redis answers to command %d: %s", i, line)
		}
	}
}

func (r *redisServer) Check(*harness.Container) {
	r.e.T.Helper()
	var b strings.Builder
	b.WriteString("DBSIZE\nGET count\nLLEN list\nHLEN hash\n")
	names := slices.Sorted(maps.Keys(r.keys))
	for _, k := range names {
		fmt.Fprintf(&b, "GET %s\n", k)
	}
	n := len(names)
	want := []string{strconv.Itoa(n + 3), strconv.Itoa(n), strconv.Itoa(n), strconv.Itoa(n)}
	for _, k := range names {
		want = append(want, r.keys[k])
	}
	got := r.do(b.String())
	for i := range want {
		if i >= len(got) || got[i] != want[i] {
			r.e.T.Fatalf("redis: answer %d of %d is not %q: %q", i, len(got), want[i], got[min(i, len(got)-1)])
		}
	}
}

func (r *redisServer) Copy() client {
	c := *r
	c.keys = maps.Clone(r.keys)
	return &c
}

// nginxServer: a master and two workers, which serve a file and say who they are.
type nginxServer struct {
	server
	text    string
	workers string
}

const nginxConf = `
daemon off;
worker_processes 2;
%s
pid %[2]s/nginx.pid;
error_log stderr;
events { worker_connections 64; }
http {
	access_log off;
	client_body_temp_path %[2]s/body;
	proxy_temp_path %[2]s/proxy;
	fastcgi_temp_path %[2]s/fastcgi;
	uwsgi_temp_path %[2]s/uwsgi;
	scgi_temp_path %[2]s/scgi;
	server {
		listen 127.0.0.1:%[3]d;
		root %[2]s/root;
		location = /pid { return 200 "$pid\n"; }
	}
}
`

func nginx(e *harness.Env) client {
	user := ""
	if e.Root() {
		user = "user nobody nogroup;"
	}
	port := harness.Port(e.T)
	e.Mkdir("root")
	n := &nginxServer{text: strings.Repeat("All is well.\n", 20000)}
	e.WriteFile("root/page", n.text)
	conf := e.WriteFile("nginx.conf", fmt.Sprintf(nginxConf, user, e.Dir, port))
	n.server = server{e: e, port: port, up: n.serves, command: []string{harness.Tool(e.T, "nginx"), "-p", e.Dir, "-c", conf, "-e", "stderr"}}
	return n
}

func (n *nginxServer) serves() error {
	body, err := get(fmt.Sprintf("http://127.0.0.1:%d/page", n.port))
	if err == nil && body != n.text {
		err = fmt.Errorf("nginx serves %d bytes instead of %d", len(body), len(n.text))
	}
	return err
}

func (n *nginxServer) Ready(c *harness.Container) {
	n.server.Ready(c)
	n.workers = n.pids(c)
}

// pids are those of the processes beside the first.
func (n *nginxServer) pids(c *harness.Container) string {
	var pids []int
	for _, p := range c.Ps().Processes {
		pids = append(pids, p.VPID)
	}
	slices.Sort(pids)
	return fmt.Sprint(pids)
}

func (n *nginxServer) Work(c *harness.Container) { n.Check(c) }

func (n *nginxServer) Check(c *harness.Container) {
	n.e.T.Helper()
	if err := n.serves(); err != nil {
		n.e.T.Fatalf("%v; %v", err, orAlive(c.Alive()))
	}
	for range 20 {
		pid, err := get(fmt.Sprintf("http://127.0.0.1:%d/pid", n.port))
		if err != nil {
			n.e.T.Fatal(err)
		}
		if pid = strings.TrimSpace(pid); !strings.Contains(" "+strings.Trim(n.workers, "[]")+" ", " "+pid+" ") {
			n.e.T.Fatalf("a worker says that it is pid %q; they were %s", pid, n.workers)
		}
	}
	if now := n.pids(c); now != n.workers {
		n.e.T.Fatalf("nginx has processes %s instead of %s", now, n.workers)
	}
	harness.Quiet(n.e.T, n.port)
}

func (n *nginxServer) Copy() client { return n }

// memcachedServer: values and counters, over the text protocol.
type memcachedServer struct {
	server
	values  map[string]string
	counter int
}

func memcached(e *harness.Env) client {
	port := harness.Port(e.T)
	m := &memcachedServer{values: map[string]string{}}
	args := []string{harness.Tool(e.T, "memcached"), "-l", "127.0.0.1", "-p", strconv.Itoa(port), "-t", "4"}
	if e.Root() {
		args = append(args, "-u", "nobody")
	}
	m.server = server{e: e, port: port, command: args, up: func() error {
		_, err := m.talk("set counter 0 0 1\r\n0\r\nquit\r\n")
		return err
	}}
	return m
}

// talk sends commands, the last of which is quit, and returns all answers.
func (m *memcachedServer) talk(commands string) (string, error) {
	conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", m.port), 20*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, commands); err != nil {
		return "", err
	}
	b, err := io.ReadAll(conn)
	return string(b), err
}

func (m *memcachedServer) must(commands, want string) {
	m.e.T.Helper()
	got, err := m.talk(commands + "quit\r\n")
	if err != nil {
		m.e.T.Fatal(err)
	}
	if got != want {
		m.e.T.Fatalf("memcached answers\n%.300q\ninstead of\n%.300q", got, want)
	}
	harness.Quiet(m.e.T, m.port)
}

func (m *memcachedServer) Work(*harness.Container) {
	m.e.T.Helper()
	var b, want strings.Builder
	for range 100 {
		key, value := fmt.Sprintf("key%d", len(m.values)), strings.Repeat(fmt.Sprint(len(m.values)), 100)
		m.values[key] = value
		m.counter++
		fmt.Fprintf(&b, "set %s 0 0 %d\r\n%s\r\nincr counter 1\r\n", key, len(value), value)
		fmt.Fprintf(&want, "STORED\r\n%d\r\n", m.counter)
	}
	m.must(b.String(), want.String())
}

func (m *memcachedServer) Check(*harness.Container) {
	m.e.T.Helper()
	var b, want strings.Builder
	for _, k := range slices.Sorted(maps.Keys(m.values)) {
		fmt.Fprintf(&b, "get %s\r\n", k)
		fmt.Fprintf(&want, "VALUE %s 0 %d\r\n%s\r\nEND\r\n", k, len(m.values[k]), m.values[k])
	}
	b.WriteString("incr counter 0\r\n")
	fmt.Fprintf(&want, "%d\r\n", m.counter)
	m.must(b.String(), want.String())
}

func (m *memcachedServer) Copy() client {
	c := *m
	c.values = maps.Clone(m.values)
	return &c
}
