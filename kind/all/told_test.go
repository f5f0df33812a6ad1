package all

import (
	"strings"
	"testing"
)

// TestTold: nothing is carried or refused in silence.
func TestTold(t *testing.T) {
	for _, k := range New().Told() {
		if k.Name == "" || k.Saves == "" && k.Refuses == "" {
			t.Errorf("%q (of a %s) says neither what it saves nor what it refuses", k.Name, k.Of)
		}
		for _, s := range []string{k.Saves, k.Refuses, k.Limits, k.Needs} {
			if strings.ContainsAny(s, "|\n") || strings.HasSuffix(s, ".") {
				t.Errorf("%s: %q does not fit into a cell of a table", k.Name, s)
			}
		}
	}
}

func TestAddJoins(t *testing.T) {
	got := add(add(nil, Told{Name: "x", Of: "process", Saves: "a", Limits: "l"}), Told{Name: "x", Of: "thread", Saves: "b", Limits: "l"})
	want := Told{Name: "x", Of: "process", Saves: "a; b", Limits: "l"}
	if len(got) != 1 || got[0] != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
