// Package step is the line that every program of e2e/program writes, again
// and again, so that a test can tell what it has lived through.
package step

// Step is one line on standard output, written at one stroke by one thread
// or process.
type Step struct {
	// Who writes it: the name of a thread or process.
	Who string `json:"who"`
	// N counts Who's steps, from 1.
	N int `json:"n"`
	// Mono and Real are CLOCK_MONOTONIC and CLOCK_REALTIME in nanoseconds.
	Mono int64 `json:"mono"`
	Real int64 `json:"real"`
	// IDs are the ids that Who sees of itself and of others; they never change.
	IDs string `json:"ids"`
	// Count is what the client has put in so far; it never falls.
	Count int `json:"count"`
}
