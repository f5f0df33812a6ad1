package image

import (
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Progress is how far a work over the bytes of an image has come: who does it counts,
// and who waits for it looks (Phases). Counting takes no lock and waits for nobody,
// for processes may be stopped meanwhile. A nil *Progress, and the nil *Phase that it
// gives, count nothing.
type Progress struct {
	mu     sync.Mutex
	phases []*Phase
}

// Phases of works over images, in the order in which they come.
const (
	PhaseFiles     = "files"     // contents of deleted files, pipes, memfds, ... are saved
	PhaseMemory    = "memory"    // that of processes is saved, or put in
	PhaseChecksums = "checksums" // are made, or compared
	PhaseStream    = "stream"    // goes out, or comes in
	PhaseDisk      = "disk"      // takes in what was written
)

// Phase is a part of a work, in which bytes of one sort are counted.
type Phase struct {
	name      string
	processes int
	began     time.Time
	done      atomic.Uint64
	total     atomic.Uint64
	ended     atomic.Pointer[time.Time]
	ahead     atomic.Pointer[func() uint64]
	seen      atomic.Uint64 // the most that was shown: it never goes back
}

// PhaseState is what there is to see of a phase.
type PhaseState struct {
	Name      string `json:"name"`
	Processes int    `json:"processes,omitempty"` // whose memory it is; 0: that is not known
	// Done and Total are in bytes. While it goes on, a Total of 0 is not known, and
	// another may be more than comes; when it has ended, Total is Done.
	Done  uint64    `json:"done"`
	Total uint64    `json:"total"`
	Began time.Time `json:"began"`
	Ended time.Time `json:"ended,omitzero"` // zero: it goes on
}

// Begin begins a phase of total bytes, 0: nobody knows how many. Others may go on
// meanwhile.
func (p *Progress) Begin(name string, total uint64) *Phase { return p.BeginOf(0, name, total) }

// BeginOf is Begin of what is about so many processes.
func (p *Progress) BeginOf(processes int, name string, total uint64) *Phase {
	if p == nil {
		return nil
	}
	f := &Phase{name: name, processes: processes, began: time.Now()}
	f.total.Store(total)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.phases = append(p.phases, f)
	return f
}

// Phases are all that have begun, in that order.
func (p *Progress) Phases() (all []PhaseState) {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	phases := slices.Clone(p.phases)
	p.mu.Unlock()
	for _, f := range phases {
		all = append(all, f.state())
	}
	return all
}

// Add counts n bytes more.
func (f *Phase) Add(n uint64) {
	if f != nil {
		f.done.Add(n)
	}
}

// Ahead has whoever looks add what fn gives to the bytes counted: of what is done
// outside of this process, which counts it only when all of it is done. fn is called
// while that goes on, from other goroutines. nil: that is over.
func (f *Phase) Ahead(fn func() uint64) {
	switch {
	case f == nil:
	case fn == nil:
		f.ahead.Store(nil)
	default:
		f.ahead.Store(&fn)
	}
}

// End says that all of the phase is done. To say it twice does no harm.
func (f *Phase) End() {
	if f != nil {
		now := time.Now()
		f.ended.CompareAndSwap(nil, &now)
	}
}

func (f *Phase) state() PhaseState {
	s := PhaseState{Name: f.name, Processes: f.processes, Began: f.began}
	ended := f.ended.Load() // first: what is counted later was not done by then
	ahead := f.ahead.Load()
	s.Done, s.Total = f.done.Load(), f.total.Load()
	switch {
	case ended != nil:
		s.Ended, s.Total = *ended, s.Done
	case ahead != nil:
		s.Done += (*ahead)()
	}
	for seen := f.seen.Load(); ended == nil; seen = f.seen.Load() {
		if s.Done = max(s.Done, seen); f.seen.CompareAndSwap(seen, s.Done) {
			break
		}
	}
	if s.Total > 0 {
		s.Total = max(s.Total, s.Done) // it was foretold wrongly
	}
	return s
}

// Writer counts what is written to w.
func (f *Phase) Writer(w io.Writer) io.Writer {
	if f == nil {
		return w
	}
	return &countedWriter{w, f}
}

type countedWriter struct {
	w io.Writer
	f *Phase
}

func (c *countedWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.f.Add(uint64(n))
	return n, err
}

// Reader counts what is read from r.
func (f *Phase) Reader(r io.Reader) io.Reader {
	if f == nil {
		return r
	}
	return &countedReader{r, f}
}

type countedReader struct {
	r io.Reader
	f *Phase
}

func (c *countedReader) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.f.Add(uint64(n))
	return n, err
}
