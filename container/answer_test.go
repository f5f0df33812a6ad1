package container

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ckpt/failure"
)

// An error looks the same on the other side of the pipe.
func TestWireError(t *testing.T) {
	for _, err := range []error{
		errors.New("plain"),
		failure.WithHint(failure.Unsupportedf("no such thing"), "do this", "or that"),
		failure.Mark(failure.ErrNameTaken, errors.New("taken")),
		failure.Mark(failure.ErrInterrupted, errors.New("stopped")),
		&failure.Error{Doing: "restore", VPID: 7, Comm: "nginx", What: "fd 3", Err: failure.Damagedf("gone"), Hints: []string{"h"}},
		errors.Join(fmt.Errorf("one"), failure.WithHint(failure.Unsupportedf("two"), "three")),
	} {
		b, jerr := json.Marshal(toWire(err))
		if jerr != nil {
			t.Fatal(jerr)
		}
		var w []wireError
		if jerr := json.Unmarshal(b, &w); jerr != nil {
			t.Fatal(jerr)
		}
		got := fromWire(w)
		if d := cmp.Diff(view(err), view(got)); d != "" {
			t.Errorf("%v:\n%s", err, d)
		}
	}
}

type errorView struct {
	Parts []string
	Hints [][]string
	Code  int
}

func view(err error) errorView {
	v := errorView{Code: failure.Code(err)}
	for _, e := range failure.All(err) {
		v.Parts = append(v.Parts, e.Error())
		v.Hints = append(v.Hints, failure.Hints(e))
	}
	return v
}
