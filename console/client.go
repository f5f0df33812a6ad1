package console

import (
	"net"
	"time"
)

// mostWaiting is how much may wait for a client, in bytes, before programs wait for it,
// as they do for a terminal; clientPatience is for how long they do. Then what waits is
// dropped, and the client is shown what there is by the time it reads again.
const (
	mostWaiting    = 1 << 20
	clientPatience = 5 * time.Second
)

// client is who is attached. All of it is guarded by the server's lock.
type client struct {
	s     *Server
	conn  *net.UnixConn
	buf   []byte // to be written
	stale bool   // what waits is nothing to it: it has to be shown all
	last  byte   // how it ends; 0: it does not
	bye   []byte
	ended bool // the connection has
}

func newClient(s *Server, conn *net.UnixConn) *client {
	c := &client{s: s, conn: conn}
	go c.write()
	return c
}

// put gives it more to show.
func (c *client) put(b []byte) {
	if c.stale || c.last != 0 {
		return
	}
	c.buf = append(c.buf, b...)
	c.s.changed.Broadcast()
}

// throttle waits while too much waits for it. It is called by who reads what programs
// write.
func (c *client) throttle() {
	late := false
	timer := time.AfterFunc(clientPatience, func() {
		c.s.mu.Lock()
		defer c.s.mu.Unlock()
		late = true
		c.s.changed.Broadcast()
	})
	defer timer.Stop()
	for len(c.buf) > mostWaiting && c.s.client == c && c.s.holds == 0 && !c.s.closed && !late {
		c.s.changed.Wait()
	}
	if late && len(c.buf) > mostWaiting {
		c.buf, c.stale = nil, true
	}
}

// end lets it go once it has been shown what waits.
func (c *client) end(how byte, bye []byte) {
	if c.last == 0 {
		c.last, c.bye = how, bye
	}
	if c.s.client == c && how != goodbye {
		c.s.client = nil
	}
	c.s.changed.Broadcast()
}

// write writes what waits. When that fails, or is done, the connection ends.
func (c *client) write() {
	defer c.conn.Close()
	for {
		kind, b := c.next()
		if kind == 0 || send(c.conn, kind, b) != nil || kind == goodbye || kind == elsewhere {
			return
		}
	}
}

// next waits for something to be written. Kind 0: there is nobody any more.
func (c *client) next() (kind byte, b []byte) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	for {
		switch {
		case c.ended:
			return 0, nil
		case c.stale:
			c.stale, c.buf = false, c.s.screen.Paint()
			return paint, nil
		case len(c.buf) > 0:
			b, c.buf = c.buf, nil
			c.s.changed.Broadcast()
			return output, b
		case c.last != 0:
			return c.last, c.bye
		}
		c.s.changed.Wait()
	}
}
