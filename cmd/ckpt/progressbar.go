package main

import (
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vbauerster/cupwriter"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/sys/unix"

	"ckpt/image"
)

// barCells is how long the bar is, in columns, where there is room.
const barCells = 20

// bar is a view on a terminal, one line. What others write to it goes to the
// terminal, above the line if there is one.
type bar struct {
	out   *os.File
	cell  string
	pace  *pace
	began time.Time // of the phase that pace is of
	text  atomic.Pointer[barText]

	mu      sync.Mutex
	all     *mpb.Progress // nil: nothing is drawn
	line    *mpb.Bar
	refresh chan any
}

// barText stands beside the bar.
type barText struct{ front, behind string }

func newBar(out *os.File, utf8 bool) *bar {
	b := &bar{out: out, cell: "=", refresh: make(chan any)}
	if utf8 {
		b.cell = "━"
	}
	return b
}

// barEvery is how often the bar is drawn anew.
const barEvery = 100 * time.Millisecond

func (b *bar) every() time.Duration { return barEvery }

func (b *bar) show(now time.Time, what subject, phases []image.PhaseState) {
	p := current(phases)
	if p == nil || now.Sub(phases[0].Began) < progressDelay || !foreground(b.out) {
		return
	}
	if b.pace == nil || !b.began.Equal(p.Began) {
		b.pace, b.began = beginPace(p.Began), p.Began
	}
	b.pace.mark(now, p.Done)
	left, known := b.pace.left(p.Total)
	text := progressText(what, p, b.pace.rate(), left, known)
	b.text.Store(&text)
	b.draw(now, p)
}

func (b *bar) draw(now time.Time, p *image.PhaseState) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.all == nil {
		screen := cupwriter.New(ahead{b.out}, false)
		screen.SetTermFd(int(b.out.Fd()))
		b.all = mpb.New(mpb.WithConsoleWriter(screen), mpb.WithManualRefresh(b.refresh))
		front := decor.Any(func(decor.Statistics) string { return b.text.Load().front })
		behind := decor.Any(func(decor.Statistics) string { return b.text.Load().behind })
		// Its total is told later: one that is told here ends the bar when it is reached.
		b.line = b.all.New(0, mpb.BarStyle().Lbound("").Rbound("").Filler(b.cell).Tip(b.cell).Padding(" "),
			mpb.BarWidth(barCells), mpb.PrependDecorators(front), mpb.AppendDecorators(behind))
	}
	b.line.SetTotal(int64(p.Total), false)
	b.line.SetCurrent(int64(p.Done))
	b.refresh <- now
}

func (b *bar) end(time.Time, subject, []image.PhaseState) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.all != nil {
		b.line.Abort(true)
		b.all.Wait()
		b.all = nil
	}
}

// Write implements io.Writer.
func (b *bar) Write(text []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.all == nil {
		return b.out.Write(text)
	}
	n, err := b.all.Write(text)
	b.refresh <- time.Now() // else it waits for the next change, or for ever
	return n, err
}

// ahead is a terminal on which this process draws as long as it is in the foreground:
// in the background it would be stopped for it (stty tostop), and the container with
// it, or draw over what others have written.
type ahead struct{ *os.File }

func (a ahead) Write(b []byte) (int, error) {
	if !foreground(a.File) {
		return len(b), nil
	}
	return a.File.Write(b)
}

func foreground(f *os.File) bool {
	group, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCGPGRP)
	return err != nil || group == unix.Getpgrp() // an error: it is not its own terminal
}

// movesCursor tells whether the terminal can (terminfo(5)): else a line could not be
// taken back.
func (a *app) movesCursor() bool {
	term := a.getenv("TERM")
	return term != "" && term != "dumb"
}

// utf8 tells whether the terminal shows UTF-8 (locale(7)).
func (a *app) utf8() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToLower(a.getenv(name)); v != "" {
			return strings.HasSuffix(v, "utf-8") || strings.HasSuffix(v, "utf8")
		}
	}
	return false
}
