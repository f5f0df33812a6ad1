// Command gcload keeps the garbage collector, the scheduler, timers and
// signals of a Go program busy and checks all of them. Its parts tell their
// steps on standard output (step.Step); whatever is not as it should be is
// written as "error: ..." and ends it. SIGUSR1 is counted.
package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"os/signal"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ckpt/e2e/step"
)

const period = 50 * time.Millisecond

func fail(format string, args ...any) {
	fmt.Printf("error: "+format+"\n", args...)
	os.Exit(70)
}

// steps are those of one goroutine.
type steps struct {
	who string
	n   int
}

func (s *steps) told(count int64) {
	s.n++
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		fail("clock_gettime: %v", err)
	}
	b, err := json.Marshal(step.Step{Who: s.who, N: s.n, Mono: ts.Nano(), Real: time.Now().UnixNano(), Count: int(count),
		IDs: fmt.Sprintf("pid %d ppid %d pgid %d", os.Getpid(), os.Getppid(), syscall.Getpgrp())})
	if err != nil {
		fail("%v", err)
	}
	if _, err := os.Stdout.Write(append(b, '\n')); err != nil {
		os.Exit(71)
	}
}

// node is one of a long list, so that the collector has pointers to follow.
type node struct {
	next *node
	val  uint64
	data []byte
}

// heap replaces a list of blocks node by node and checks every one it drops.
func heap() {
	s := &steps{who: "heap"}
	const length = 50000
	var head, tail *node
	add := func(v uint64) {
		n := &node{val: v, data: binary.LittleEndian.AppendUint64(make([]byte, 0, 200), v)}
		if tail != nil {
			tail.next = n
		} else {
			head = n
		}
		tail = n
	}
	v := uint64(0)
	for ; v < length; v++ {
		add(v)
	}
	for {
		for range 5000 {
			if got := binary.LittleEndian.Uint64(head.data); head.val != v-length || got != head.val {
				fail("heap: node %d holds %d and %d", v-length, head.val, got)
			}
			head = head.next
			add(v)
			v++
		}
		s.told(0)
		time.Sleep(period / 5)
	}
}

// ring passes a number through goroutines of which some keep a thread.
func ring() {
	s := &steps{who: "ring"}
	const size = 64
	chans := make([]chan uint64, size)
	for i := range chans {
		chans[i] = make(chan uint64)
	}
	for i := 1; i < size; i++ {
		go func() {
			if i%16 == 0 {
				runtime.LockOSThread()
				tid := unix.Gettid()
				defer runtime.UnlockOSThread()
				for n := range chans[i] {
					if t := unix.Gettid(); t != tid {
						fail("thread id was %d and is %d", tid, t)
					}
					chans[(i+1)%size] <- n + 1
				}
			}
			for n := range chans[i] {
				chans[(i+1)%size] <- n + 1
			}
		}()
	}
	for n := uint64(0); ; {
		for range 20 {
			chans[1] <- n + 1
			got := <-chans[0]
			if got != n+size {
				fail("ring: %d after %d", got, n)
			}
			n = got
		}
		s.told(0)
		time.Sleep(period)
	}
}

// timers waits with a ticker and with timeouts that must not come early.
func timers() {
	s := &steps{who: "timers"}
	tick := time.NewTicker(period)
	for {
		before := time.Now()
		select {
		case <-tick.C:
		case <-time.After(30 * time.Second):
			fail("ticker stands still")
		}
		<-time.After(period / 5)
		if d := time.Since(before); d < period/5 {
			fail("timer of %v rang after %v", period/5, d)
		}
		s.told(0)
	}
}

// pipes writes blocks through a pipe that is never quite empty.
func pipes() {
	s := &steps{who: "pipes"}
	r, w, err := os.Pipe()
	if err != nil {
		fail("%v", err)
	}
	block := bytes.Repeat([]byte("0123456789abcdef"), 64)
	sum := crc32.ChecksumIEEE(block)
	put := func() {
		if _, err := w.Write(block); err != nil {
			fail("write to a pipe: %v", err)
		}
	}
	put()
	buf := make([]byte, len(block))
	for {
		put()
		for read := 0; read < len(buf); {
			n, err := r.Read(buf[read:])
			if err != nil {
				fail("read from a pipe: %v", err)
			}
			read += n
		}
		if crc32.ChecksumIEEE(buf) != sum {
			fail("pipe: other bytes came out")
		}
		s.told(0)
		time.Sleep(period)
	}
}

func main() {
	var usr1 atomic.Int64
	sigs := make(chan os.Signal, 16)
	signal.Notify(sigs, unix.SIGUSR1)
	go func() {
		for range sigs {
			usr1.Add(1)
		}
	}()
	for _, f := range []func(){heap, ring, timers, pipes} {
		go f()
	}
	s := &steps{who: "main"}
	for {
		time.Sleep(period)
		s.told(usr1.Load())
	}
}
