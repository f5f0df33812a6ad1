package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"ckpt/container"
	"ckpt/image"
)

// What takes long is shown while it goes on: on a terminal as a line that comes after
// half a second and is gone before anything else is said; on request as JSON, a line
// each half second and one for each phase that ends. Whoever does the work counts
// (image.Progress), and a goroutine of its own looks and draws: a terminal that takes
// nothing (ctrl-S) holds up no work.

// Values of --progress.
const (
	progressAuto = "auto"
	progressJSON = "json"
	progressNone = "none"
)

// progressDelay is how long something takes before it is shown.
const progressDelay = 500 * time.Millisecond

// view shows how far something has come.
type view interface {
	// every is how often it is shown anew.
	every() time.Duration
	show(now time.Time, what subject, phases []image.PhaseState)
	// end is the last: all that was drawn goes, and what has to be kept of the
	// phases is written.
	end(now time.Time, what subject, phases []image.PhaseState)
}

// subject is what somebody waits for: the command, and the container or image.
type subject struct{ doing, name string }

// waiting shows how far a command has come, until its end.
type waiting struct {
	here *image.Progress // counted in this process; nil: nobody looks
	view view            // nil: nothing is shown
	stop func()

	mu    sync.Mutex
	what  subject
	there []image.PhaseState // told by a supervisor
}

// wait begins to show how far a command has come with what is called name; the caller
// ends it before anything is printed.
func (a *app) wait(doing, name string) *waiting {
	w := &waiting{what: subject{doing, name}, stop: func() {}}
	view, undo := a.newView()
	if view == nil {
		return w
	}
	w.view = view
	w.here = &image.Progress{}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		w.run(stop)
	}()
	w.stop = sync.OnceFunc(func() {
		close(stop)
		<-stopped
		undo()
	})
	return w
}

func (w *waiting) run(stop <-chan struct{}) {
	tick := time.NewTicker(w.view.every())
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			what, phases := w.look()
			w.view.show(now, what, phases)
		case <-stop:
			what, phases := w.look()
			w.view.end(time.Now(), what, phases)
			return
		}
	}
}

func (w *waiting) look() (subject, []image.PhaseState) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.what, slices.Concat(w.here.Phases(), w.there)
}

// named says what it is called by now.
func (w *waiting) named(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.what.name = name
}

// toldBy takes in what a supervisor tells (tell). nil: nobody looks.
func (w *waiting) toldBy() func(json.RawMessage) {
	if w.here == nil {
		return nil
	}
	return func(b json.RawMessage) {
		var phases []image.PhaseState
		if json.Unmarshal(b, &phases) == nil { // a supervisor is this very program
			w.mu.Lock()
			defer w.mu.Unlock()
			w.there = phases
		}
	}
}

// tell tells the command that asked for a container what is counted, while the maker
// works. The caller calls told when that is done. nil: nobody looks.
func tell(req *container.Request) (p *image.Progress, told func()) {
	if !req.Listens {
		return nil, func() {}
	}
	p = &image.Progress{}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(barEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-stop:
				_ = req.Tell(p.Phases())
				return
			}
			_ = req.Tell(p.Phases()) // the command may be gone: then there is nobody to tell
		}
	}()
	return p, func() { close(stop); <-stopped }
}

// end has all that was drawn gone. To call it twice does no harm.
func (w *waiting) end() { w.stop() }

// newView is how progress is to be shown; nil: not at all. undo comes after its end.
func (a *app) newView() (v view, undo func()) {
	undo = func() {}
	switch {
	case a.global.progress == progressJSON:
		return newJSONLines(a.err), undo
	case a.global.progress == progressNone, a.global.quiet, a.global.logFormat == "json":
		return nil, undo
	}
	f, ok := a.err.(*os.File)
	if !ok || !isTerminal(int(f.Fd())) || !a.movesCursor() {
		return nil, undo
	}
	b := newBar(f, a.utf8())
	a.err = b // what is said meanwhile stands above it
	return b, func() { a.err = f }
}

// current is the phase to show, the one that has begun last of those that go on; nil: none
// does.
func current(phases []image.PhaseState) *image.PhaseState {
	for i := range slices.Backward(phases) {
		if phases[i].Ended.IsZero() {
			return &phases[i]
		}
	}
	return nil
}

// mostName is how much of a name is shown, in columns.
const mostName = 30

// progressText is what stands in front of the bar, and behind it.
func progressText(what subject, p *image.PhaseState, rate float64, left time.Duration, known bool) barText {
	of := phaseTexts[p.Name]
	if p.Processes == 1 {
		of = "1 process"
	} else if p.Processes > 1 {
		of = fmt.Sprintf("%d processes", p.Processes)
	}
	behind := ""
	if p.Done > 0 { // a disk tells nothing before it is done
		behind = " " + bytesText(uint64(rate)) + "/s"
	}
	if known {
		behind += "  " + upText(left+time.Second-1) + " left"
	}
	name := strings.TrimSuffix(cutLines(plain(what.name), mostName), "\n")
	return barText{fmt.Sprintf("%s: %s, %s ", name, of, bytesText(cmp.Or(p.Total, p.Done))), behind}
}

var phaseTexts = map[string]string{
	image.PhaseFiles: "files", image.PhaseMemory: "memory", image.PhaseChecksums: "checksums",
	image.PhaseStream: "stream", image.PhaseDisk: "to disk",
}
