package pipebuf

import (
	"golang.org/x/sys/unix"

	"ckpt/kind"
)

// Held is what the container's descriptors hold of one pipe or FIFO.
type Held struct {
	Reader, Writer *kind.Desc // one of each sort of end; nil: none
	packets        bool       // a writer is in O_DIRECT mode
}

// CanRead tells of open(2) flags that they let read.
func CanRead(flags int) bool { return flags&unix.O_ACCMODE != unix.O_WRONLY }

// CanWrite tells of open(2) flags that they let write.
func CanWrite(flags int) bool { return flags&unix.O_ACCMODE != unix.O_RDONLY }

// See notes an end.
func (h *Held) See(d *kind.Desc) {
	if CanRead(d.Info.Flags) && h.Reader == nil {
		h.Reader = d
	}
	if CanWrite(d.Info.Flags) {
		h.packets = h.packets || d.Info.Flags&unix.O_DIRECT != 0
		if h.Writer == nil {
			h.Writer = d
		}
	}
}

// Keep notes an end for use in Finish, until Drop.
func (h *Held) Keep(d *kind.Desc) error {
	k, err := d.Keep()
	if err != nil {
		return err
	}
	h.See(k)
	if k != h.Reader && k != h.Writer {
		k.Drop()
	}
	return nil
}

// Drop lets go what Keep has kept.
func (h *Held) Drop() {
	h.Reader.Drop()
	if h.Writer != h.Reader {
		h.Writer.Drop()
	}
}

// End is the reader, if there is one, else the writer.
func (h *Held) End() *kind.Desc {
	if h.Reader != nil {
		return h.Reader
	}
	return h.Writer
}

// Contents of the pipe. Where no descriptor can read, a process could still
// get at them by opening /proc/PID/fd/N; so does ckpt. Of a FIFO it is then a
// reader for an instant, but nobody outside waits for one: who does
// (fifo(7)) has filled nothing.
func (h *Held) Contents() (*Contents, error) {
	if h.Reader != nil {
		return Peek(h.Reader.File, h.packets)
	}
	n, err := Queued(h.Writer.File)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		size, err := Size(h.Writer.File)
		return &Contents{Size: size}, err
	}
	f, err := h.Writer.Reopen(unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return Peek(f, h.packets)
}
