package image

import (
	"fmt"
	"io"
	"runtime"
)

// Send writes the contents of runs to w, one behind the other. Frames that follow
// each other are decoded at the same time.
func Send(w io.Writer, runs []Run) error {
	s := sender{w: w}
	for _, r := range runs {
		if err := s.run(r); err != nil {
			return err
		}
	}
	return s.flush(0)
}

// sender decodes ahead of what it writes.
type sender struct {
	w       io.Writer
	pending []piece
	last    *decoded // the frame that was asked for last
}

// piece is a part of a frame.
type piece struct {
	*decoded
	from, to int64 // within the frame, in bytes
}

// decoded is a frame that is being decoded.
type decoded struct {
	of    *frames
	index int
	done  chan struct{}
	b     []byte // once done is closed
	err   error
}

func (s *sender) run(r Run) error {
	f := r.File.frames
	if f == nil {
		if err := s.flush(0); err != nil {
			return err
		}
		_, err := io.Copy(s.w, io.NewSectionReader(r.File, r.Offset, int64(r.Pages*PageSize)))
		return err
	}
	for at, end := r.Offset, r.Offset+int64(r.Pages*PageSize); at < end; {
		i := f.holding(at)
		one := f.all[i]
		p := piece{s.decode(f, i), at - one.from, min(end-one.from, one.bytes)}
		s.pending = append(s.pending, p)
		at = one.from + p.to
		if err := s.flush(runtime.GOMAXPROCS(0)); err != nil {
			return err
		}
	}
	return nil
}

// decode begins with a frame, unless it was the last one anyway.
func (s *sender) decode(f *frames, i int) *decoded {
	if d := s.last; d != nil && d.of == f && d.index == i {
		return d
	}
	d := &decoded{of: f, index: i, done: make(chan struct{})}
	go func() {
		d.b, d.err = f.decode(i, nil)
		close(d.done)
	}()
	s.last = d
	return d
}

// flush writes what is decoded, until no more than some are pending.
func (s *sender) flush(some int) error {
	for len(s.pending) > some {
		p := s.pending[0]
		s.pending = s.pending[1:]
		<-p.done
		if p.err != nil {
			return p.err
		}
		if _, err := s.w.Write(p.b[p.from:p.to]); err != nil {
			return fmt.Errorf("pass on the pages of memory: %w", err)
		}
	}
	return nil
}
