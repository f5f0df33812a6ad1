package dump

import (
	"errors"
	"fmt"

	"ckpt/failure"
	"ckpt/kind"
)

func externals(names []string) kind.External {
	x := kind.External{}
	for _, n := range names {
		x[n] = false
	}
	return x
}

// unusedExternals refuses what the user has named as outside (--external) and
// nothing is connected to.
func (s *session) unusedExternals() error {
	var errs []error
	for _, n := range s.d.External.Unused() {
		errs = append(errs, failure.WithHint(failure.Mark(failure.ErrUsage, fmt.Errorf("dump: --external %s: nothing of %s is connected to that", failure.Quote(n), s.src.Name)),
			"leave --external out: what is in the way is told, by the name to be given"))
	}
	return errors.Join(errs...)
}
