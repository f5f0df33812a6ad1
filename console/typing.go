package console

import (
	"sync"
	"sync/atomic"
)

// mostTyped is how much may wait that programs have not read, in bytes.
const mostTyped = 64 << 10

// typing is what was typed, and is not written to the terminal yet.
type typing struct {
	attached atomic.Bool // a client is, whose terminal answers by itself

	mu      sync.Mutex
	changed *sync.Cond
	buf     []byte
	closed  bool
}

func newTyping() *typing {
	t := &typing{}
	t.changed = sync.NewCond(&t.mu)
	return t
}

// typed adds b; it waits while there is too much.
func (t *typing) typed(b []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.buf) > mostTyped && !t.closed {
		t.changed.Wait()
	}
	t.buf = append(t.buf, b...)
	t.changed.Broadcast()
}

// answer adds what the screen answers to a program, if there is no client. It does not
// wait: a program that asks and does not read has lost it.
func (t *typing) answer(b []byte) {
	if t.attached.Load() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.buf)+len(b) <= mostTyped {
		t.buf = append(t.buf, b...)
		t.changed.Broadcast()
	}
}

// next waits for something; nil: no more.
func (t *typing) next() (b []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.buf) == 0 && !t.closed {
		t.changed.Wait()
	}
	b, t.buf = t.buf, nil
	t.changed.Broadcast()
	return b
}

func (t *typing) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed, t.buf = true, nil
	t.changed.Broadcast()
}
