package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// holds are the ways in which the measured program can be big. Each says
// "ready" and then sleeps.
var holds = map[string]func(n int) error{"memory": memory, "processes": processes, "threads": threads}

func memory(megabytes int) error {
	b, err := unix.Mmap(-1, 0, megabytes*1e6, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return err
	}
	x := uint64(88172645463325252) // xorshift
	for i := 0; i+8 <= len(b); i += 8 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		binary.NativeEndian.PutUint64(b[i:], x)
	}
	return sleep()
}

// processes starts n-1 small children.
func processes(n int) error {
	for range n - 1 {
		if err := exec.Command("/bin/sleep", "infinity").Start(); err != nil {
			return err
		}
	}
	return sleep()
}

// threads parks goroutines in a system call of a thread of their own each.
func threads(n int) error {
	var started sync.WaitGroup
	for range n {
		started.Add(1)
		go func() {
			runtime.LockOSThread()
			started.Done()
			for {
				unix.Pause() // returns only when a signal was handled
			}
		}()
	}
	started.Wait()
	return sleep()
}

func sleep() error {
	if _, err := fmt.Println("ready"); err != nil {
		return err
	}
	for {
		if err := unix.Pause(); err != nil && err != unix.EINTR {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}
