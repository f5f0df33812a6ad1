package main

import (
	"encoding/json"
	"io"
	"math"
	"time"

	"ckpt/image"
)

// jsonLines is a view for programs.
type jsonLines struct {
	out   *json.Encoder
	ended int // phases whose end is told; they end in order but for the last
	pace  *pace
	began time.Time // of the phase that pace is of
}

// progressLine is one line: docs/decisions/progress.md.
type progressLine struct {
	Time  time.Time `json:"time"`
	What  string    `json:"what"` // the command
	Name  string    `json:"name"` // of the container, or of the image
	Phase string    `json:"phase"`
	Bytes uint64    `json:"bytes"`
	// Total is missing if it is not known. In the last line of a phase it is Bytes.
	Total uint64 `json:"total,omitempty"`
	Rate  uint64 `json:"rate"` // bytes a second: of late; in the last line of a phase, of all of it
	// SecondsLeft is missing if it is not known.
	SecondsLeft *float64 `json:"seconds_left,omitempty"`
	Ended       bool     `json:"ended"`
}

func newJSONLines(out io.Writer) *jsonLines {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	return &jsonLines{out: e}
}

func (j *jsonLines) every() time.Duration { return progressDelay }

func (j *jsonLines) show(now time.Time, what subject, phases []image.PhaseState) {
	j.tellEnded(what, phases)
	p := current(phases)
	if p == nil {
		return
	}
	if j.pace == nil || !j.began.Equal(p.Began) {
		j.pace, j.began = beginPace(p.Began), p.Began
	}
	j.pace.mark(now, p.Done)
	line := progressLine{now, what.doing, what.name, p.Name, p.Done, p.Total, uint64(j.pace.rate()), nil, false}
	if left, known := j.pace.left(p.Total); known {
		line.SecondsLeft = seconds(left)
	}
	j.write(line)
}

func (j *jsonLines) end(_ time.Time, what subject, phases []image.PhaseState) {
	j.tellEnded(what, phases)
}

// tellEnded tells of phases that have ended since, those of no bytes left out.
func (j *jsonLines) tellEnded(what subject, phases []image.PhaseState) {
	for ; j.ended < len(phases) && !phases[j.ended].Ended.IsZero(); j.ended++ {
		p := phases[j.ended]
		if p.Done == 0 {
			continue
		}
		rate := float64(p.Done) / max(p.Ended.Sub(p.Began).Seconds(), 1e-6)
		j.write(progressLine{p.Ended, what.doing, what.name, p.Name, p.Done, p.Done, uint64(rate), seconds(0), true})
	}
}

// write has no use for an error: who reads may be gone, and the work goes on.
func (j *jsonLines) write(l progressLine) {
	l.Time = l.Time.Round(0)
	_ = j.out.Encode(l)
}

func seconds(d time.Duration) *float64 {
	s := math.Round(d.Seconds()*10) / 10
	return &s
}
