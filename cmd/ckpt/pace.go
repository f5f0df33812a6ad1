package main

import "time"

// pace is how fast something goes on: in the last few seconds, so that it tells of a
// stall, and of what comes now.
type pace struct {
	marks []mark // the oldest first
}

// mark is how many bytes were done at an instant.
type mark struct {
	at   time.Time
	done uint64
}

// paceSpan is over how long the pace is taken.
const paceSpan = 3 * time.Second

// beginPace is that of what begins at an instant, with nothing done.
func beginPace(at time.Time) *pace { return &pace{[]mark{{at: at}}} }

// mark notes how much was done at an instant. Times come in order.
func (p *pace) mark(at time.Time, done uint64) {
	p.marks = append(p.marks, mark{at, done})
	for len(p.marks) > 2 && at.Sub(p.marks[1].at) >= paceSpan {
		p.marks = p.marks[1:]
	}
}

// rate is in bytes a second.
func (p *pace) rate() float64 {
	first, last := p.marks[0], p.marks[len(p.marks)-1]
	took := last.at.Sub(first.at).Seconds()
	if took <= 0 || last.done <= first.done {
		return 0
	}
	return float64(last.done-first.done) / took
}

// mostLeft bounds what is told of the time left: more is a stall.
const mostLeft = 1000 * time.Hour

// left is how long it takes until total bytes are done. false: that is not known, for
// there is no total, or nothing goes on.
func (p *pace) left(total uint64) (time.Duration, bool) {
	done, rate := p.marks[len(p.marks)-1].done, p.rate()
	switch {
	case total == 0:
		return 0, false
	case done >= total:
		return 0, true
	case rate == 0:
		return 0, false
	}
	seconds := float64(total-done) / rate
	if seconds > mostLeft.Seconds() {
		return 0, false
	}
	return time.Duration(seconds * float64(time.Second)), true
}
