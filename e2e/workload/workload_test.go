// Package workload runs real programs through dump and restore: each is
// started by its real command, a client puts work into it, it is dumped and
// restored, and the client checks that nothing is lost and that every id is
// the same inside and another one outside.
package workload

import (
	"testing"

	"ckpt/e2e/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// workload is one real program.
type workload struct {
	name string
	// new prepares what the program needs and gives its client.
	new func(e *harness.Env) client
	// churn says which of its ids may differ.
	churn harness.Churn
	// alone: it holds something that exists once on a machine (a port, the
	// lock of a file), so that the first must end before a copy comes up.
	alone bool
	// connected: it has TCP connections within the container, which an
	// ordinary user may look into only on a network of the container's own.
	connected bool
	// onDisk: its memory is worth nothing without the files it goes on
	// writing to, so that no copy of it can be had from an older image.
	onDisk bool
}

// client uses a program as its users do. It fails its test.
type client interface {
	// Command is what the container runs.
	Command() []string
	// Ready returns once the program can be used, and all its processes and
	// threads are there.
	Ready(c *harness.Container)
	// Work puts something in, without waiting longer than a user would.
	// Nothing of it may be lost.
	Work(c *harness.Container)
	// Dumped is told that an image has been made.
	Dumped(c *harness.Container)
	// Check looks for all that was put in.
	Check(c *harness.Container)
	// Copy is a client of a copy of the container: it knows what has been
	// put in so far.
	Copy() client
}

var workloads = []workload{
	{name: "python", new: python},
	{name: "node", new: node, alone: true},
	{name: "java", new: java, alone: true, churn: harness.Churn{Threads: true}},
	{name: "go", new: goProgram, churn: harness.Churn{Threads: true}},
	// Its forked children are bashes until they have become a sleep.
	{name: "bash", new: bash, churn: harness.Churn{Comms: []string{"sleep", "bash"}}, alone: true},
	// A client's signal makes it wait for its zombies and leave new ones. All
	// others are missed by one whose steps are followed.
	{name: "family", new: family, alone: true, churn: harness.Churn{Comms: []string{"family"}}},
	{name: "signals", new: signals},
	{name: "redis", new: redis, alone: true},
	{name: "redis-clients", new: redisInside, alone: true, connected: true},
	{name: "nginx", new: nginx, alone: true},
	{name: "postgres", new: postgres, onDisk: true},
	{name: "memcached", new: memcached, alone: true},
}
