// Package series is a directory into which a container is saved again and again:
// the order of the images in it, which one is the newest, which are needed no more.
//
// Everything is read off the names, so it holds after any interruption, for images
// that are encrypted, and for who looks with ls(1). See docs/decisions/saved-by-itself.md.
package series

import (
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// Image is one of a series.
type Image struct {
	Name   string // of its directory
	Number int    // from 1, in the order they were made
	After  int    // the number of its parent; 0: it is complete
	Made   time.Time
}

// stamp is when an image was begun, in UTC. The number stands before it, since a
// clock may be set back.
const stamp = "20060102T150405Z"

var form = regexp.MustCompile(`^(\d{6,9})-(\d{8}T\d{6}Z)(?:-after-(\d{6,9}))?$`)

// name gives an image its name.
func name(number, after int, at time.Time) string {
	n := fmt.Sprintf("%06d-%s", number, at.UTC().Format(stamp))
	if after != 0 {
		n += fmt.Sprintf("-after-%06d", after)
	}
	return n
}

// parse reads a name; ok: it is one of a series.
func parse(s string) (i Image, ok bool) {
	m := form.FindStringSubmatch(s)
	if m == nil {
		return i, false
	}
	i.Name = s
	i.Number, _ = strconv.Atoi(m[1]) // up to nine digits
	i.After, _ = strconv.Atoi(m[3])
	at, err := time.Parse(stamp, m[2])
	i.Made = at
	return i, err == nil && i.Number > 0 && i.After < i.Number
}

// Has tells whether a directory's name is that of an image of a series.
func Has(name string) bool {
	_, ok := parse(name)
	return ok
}
