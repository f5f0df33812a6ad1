package workload

import (
	"fmt"
	"strconv"
	"strings"

	"ckpt/e2e/harness"
)

// counting is redis with two clients inside the container, whose connections
// are in use all the time: no request and no answer may be lost or come twice.
type counting struct {
	e       *harness.Env
	command []string
	// counted are the last answers to each client, in its own unit.
	counted map[int]int
	read    int // bytes of log
	// rewind: whose next answer may be an earlier one, once.
	rewind map[int]bool
}

func redisInside(e *harness.Env) client {
	return &counting{e: e, counted: map[int]int{}, command: []string{harness.Tool(e.T, "sh"), harness.Program(e.T, "redis.sh"),
		harness.Tool(e.T, "redis-server"), harness.Tool(e.T, "redis-cli"), strconv.Itoa(harness.Port(e.T)), e.Mkdir("redis")}}
}

func (k *counting) Command() []string { return k.command }

// follow reads the answers that came since; every one must be the next.
func (k *counting) follow(c *harness.Container) {
	k.e.T.Helper()
	log := c.Log()
	fresh := log[k.read:]
	fresh = fresh[:strings.LastIndexByte(fresh, '\n')+1]
	k.read += len(fresh)
	for line := range strings.Lines(fresh) {
		n, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil {
			k.e.T.Fatalf("a client says %q", line)
		}
		unit := 1
		if n >= 1000000 {
			unit = 1000000
		}
		if n != k.counted[unit]+unit && !(k.rewind[unit] && n <= k.counted[unit]) {
			k.e.T.Fatalf("an answer is %d, the last was %d", n, k.counted[unit])
		}
		delete(k.rewind, unit)
		k.counted[unit] = n
	}
}

// goesOn waits for ten more answers to each client.
func (k *counting) goesOn(c *harness.Container) {
	k.e.T.Helper()
	k.follow(c)
	ones, millions := k.counted[1], k.counted[1000000]
	harness.Eventually(k.e.T, "redis and its clients go on", func() error {
		k.follow(c)
		if k.counted[1] < ones+10 || k.counted[1000000] < millions+10*1000000 {
			return fmt.Errorf("the last answers are %v; %w", k.counted, orAlive(c.Alive()))
		}
		return nil
	})
}

func (k *counting) Ready(c *harness.Container)  { k.goesOn(c) }
func (k *counting) Work(*harness.Container)     {}
func (k *counting) Dumped(c *harness.Container) { k.follow(c) }
func (k *counting) Check(c *harness.Container)  { k.goesOn(c) }

// Copy: the copy has a log of its own, which begins when it was dumped, a few
// answers before the last that is known.
func (k *counting) Copy() client {
	c := *k
	c.counted = map[int]int{1: k.counted[1], 1000000: k.counted[1000000]}
	c.read, c.rewind = 0, map[int]bool{1: true, 1000000: true}
	return &c
}
