package main

import (
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	const second = time.Second
	type step struct {
		at   time.Duration
		done uint64
	}
	for _, tt := range []struct {
		name  string
		steps []step
		total uint64
		rate  float64
		left  time.Duration // -1: not known
	}{
		{"nothing yet", nil, 100, 0, -1},
		{"no time has passed", []step{{0, 10}}, 100, 0, -1},
		{"half", []step{{second, 50}}, 100, 50, second},
		{"how much there is nobody knows", []step{{second, 50}}, 0, 50, -1},
		{"all", []step{{2 * second, 100}}, 100, 50, 0},
		{"more than all", []step{{2 * second, 120}}, 100, 60, 0},
		{"slower now", []step{{second, 600}, {2 * second, 700}, {5 * second, 1000}}, 2000, 100, 10 * second},
		{"it stands still", []step{{second, 600}, {4 * second, 600}, {7 * second, 600}}, 2000, 0, -1},
		{"for years", []step{{second, 1}}, 1 << 40, 1, -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			began := time.Unix(1000, 0)
			p := beginPace(began)
			for _, s := range tt.steps {
				p.mark(began.Add(s.at), s.done)
			}
			left, known := p.left(tt.total)
			if !known {
				left = -1
			}
			if got := p.rate(); got != tt.rate || left != tt.left {
				t.Errorf("%v bytes a second, %v left; want %v, %v", got, left, tt.rate, tt.left)
			}
		})
	}
}

// TestPaceForgets: what was long ago takes no memory.
func TestPaceForgets(t *testing.T) {
	began := time.Unix(1000, 0)
	p := beginPace(began)
	for i := range 1000 {
		p.mark(began.Add(time.Duration(i)*100*time.Millisecond), uint64(i))
	}
	if n := len(p.marks); n > 40 || p.rate() != 10 {
		t.Errorf("%d marks, %v bytes a second", n, p.rate())
	}
}
