package console

import (
	"encoding/binary"
	"fmt"
	"io"
)

// What passes between a terminal's server and who is connected to it: a byte that
// says what, four bytes of length (network order), and so many bytes.
const (
	// From a client.
	attach = 'a' // a size: the client takes the place of the one before
	input  = 'i' // what was typed
	resize = 'w' // a size
	detach = 'd' // the server answers by goodbye
	// From a dump.
	lend    = 'm' // the server answers by lend, and hands over the master (SCM_RIGHTS)
	release = 'g' // ends hold
	hold    = 'h' // nothing is read or written until release, or the end of the connection; it answers by output, and hold
	// From the server.
	paint     = 'p' // empty the screen: output shows all of it
	output    = 'o' // what was written since
	goodbye   = 'x' // where to leave the cursor; the terminal, or the connection, ends
	elsewhere = 'e' // another client has come
)

// mostFrame is how long a frame may be, in bytes.
const mostFrame = 64 << 10

// send writes b, in as many frames as it takes; one if it is empty.
func send(w io.Writer, kind byte, b []byte) error {
	for {
		n := min(len(b), mostFrame)
		frame := binary.BigEndian.AppendUint32([]byte{kind}, uint32(n))
		if _, err := w.Write(append(frame, b[:n]...)); err != nil {
			return err
		}
		if b = b[n:]; len(b) == 0 {
			return nil
		}
	}
}

// receive reads a frame. The end between two is io.EOF.
func receive(r io.Reader) (kind byte, b []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > mostFrame {
		return 0, nil, fmt.Errorf("a message of %d bytes", n)
	}
	b = make([]byte, n)
	_, err = io.ReadFull(r, b)
	return head[0], b, err
}

func (z Size) encode() []byte {
	b := make([]byte, 0, 8)
	for _, v := range []uint16{z.Rows, z.Cols, z.X, z.Y} {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	return b
}

func decodeSize(b []byte) (z Size, err error) {
	if len(b) != 8 {
		return z, fmt.Errorf("a size of %d bytes", len(b))
	}
	for i, v := range []*uint16{&z.Rows, &z.Cols, &z.X, &z.Y} {
		*v = binary.BigEndian.Uint16(b[2*i:])
	}
	return z, nil
}
