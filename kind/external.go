package kind

import (
	"maps"
	"slices"
	"strings"
)

// External are the objects outside of the container that its own may be
// connected to, each as SORT:NAME (dump --external), and whether one is. A
// name that no kind uses is refused: mistyped, it would let nothing pass.
type External map[string]bool

// Names are those of one sort, in order.
func (x External) Names(sort string) (out []string) {
	for _, n := range slices.Sorted(maps.Keys(x)) {
		if name, ok := strings.CutPrefix(n, sort+":"); ok {
			out = append(out, name)
		}
	}
	return out
}

// Use notes that something of the container is connected to it.
func (x External) Use(sort, name string) { x[sort+":"+name] = true }

// Unused are the names that nothing is connected to, with their sorts, in order.
func (x External) Unused() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(x)), func(n string) bool { return x[n] })
}
