package dump

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Estimate is what a dump would have to do now.
type Estimate struct {
	Processes int    `json:"processes"`
	Threads   int    `json:"threads"`
	Bytes     uint64 `json:"bytes"` // of memory; less is written where pages are the same, or zero
}

func (s *session) estimate() Estimate {
	return Estimate{Processes: len(s.d.Procs), Threads: s.threads(), Bytes: s.resident()}
}

// What a stop takes beside memory: measured with e2e/bench on two CPUs, rounded up.
const (
	ofAll     = 15 * time.Millisecond
	ofProcess = 3 * time.Millisecond
	ofThread  = time.Millisecond
)

// sample is how much is copied to learn how fast this machine is, in bytes.
const sample = 32 << 20

// Stopped is about how long the programs would stand still while memory is taken into
// the page cache: with --leave-running that is all. It copies some to find out.
func (e Estimate) Stopped() (time.Duration, error) {
	rate, err := copyRate()
	if err != nil {
		return 0, err
	}
	fixed := ofAll + time.Duration(e.Processes)*ofProcess + time.Duration(max(e.Threads-e.Processes, 0))*ofThread
	return fixed + time.Duration(float64(e.Bytes)/rate*float64(time.Second)), nil
}

// copyRate is how many bytes a second go from memory into a new file in memory.
func copyRate() (float64, error) {
	fd, err := unix.MemfdCreate("sample", unix.MFD_CLOEXEC)
	if err != nil {
		return 0, fmt.Errorf("estimate how long it takes: %w", err)
	}
	defer unix.Close(fd)
	b := make([]byte, 1<<20)
	for i := range b {
		b[i] = byte(i) // its pages are there
	}
	began := time.Now()
	for range sample / len(b) {
		if _, err := unix.Write(fd, b); err != nil {
			return 0, fmt.Errorf("estimate how long it takes: %w", err)
		}
	}
	return sample / max(time.Since(began).Seconds(), 1e-6), nil
}
