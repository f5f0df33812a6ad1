package container

import (
	"encoding/json"
	"os"
	"slices"
	"testing"
)

// TestTell: the work waits for nobody, and the last that is told comes with the answer.
func TestTell(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	supervisor := &Request{}
	tell := func(v int) {
		t.Helper()
		if err := supervisor.tell(int(w.Fd()), v); err != nil {
			t.Fatal(err)
		}
	}
	tell(1)
	for v := 2; v < 100_000; v++ { // more than a pipe takes, of which nothing is read
		tell(v)
	}
	if err := json.NewEncoder(w).Encode(Answer{Name: "train", Told: supervisor.last}); err != nil {
		t.Fatal(err)
	}
	var told []string
	command := &Request{Told: func(b json.RawMessage) { told = append(told, string(b)) }}
	a, err := command.answer(r)
	if err != nil || a.Name != "train" || a.Working {
		t.Errorf("the answer is %+v (%v)", a, err)
	}
	if want := []string{"1", "99999"}; !slices.Equal(told, want) {
		t.Errorf("told: %q, want %q", told, want)
	}
}
