package harness

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"ckpt/e2e/step"
)

// Journal is all steps that a container's programs have told, over every
// dump and restore.
type Journal struct {
	steps map[string][]step.Step
	// rewind: who may start again at an earlier step, once.
	rewind map[string]bool
}

// Clone is what is known so far, to be continued by a copy of the container.
func (j *Journal) Clone() *Journal {
	c := &Journal{steps: map[string][]step.Step{}}
	for who, s := range j.steps {
		c.steps[who] = slices.Clone(s)
	}
	return c
}

// Rewind says that what is read next is from a copy, which knows nothing of
// the last steps: they were taken after its image was made.
func (j *Journal) Rewind() {
	j.rewind = map[string]bool{}
	for who := range j.steps {
		j.rewind[who] = true
	}
}

// Read takes in a log, whole or the part that follows what was read before.
// It fails on whatever no program may write that lost nothing: an error, a
// step left out or taken twice, an id that changed, a clock that jumped.
func (j *Journal) Read(log string) error {
	if j.steps == nil {
		j.steps = map[string][]step.Step{}
	}
	for line := range strings.Lines(log) {
		if !strings.HasSuffix(line, "\n") {
			break // still being written
		}
		var s step.Step
		if err := json.Unmarshal([]byte(line), &s); err != nil || s.Who == "" {
			return fmt.Errorf("a program wrote: %s", strings.TrimSpace(line))
		}
		if err := j.add(s); err != nil {
			return err
		}
	}
	return nil
}

func (j *Journal) add(s step.Step) error {
	had := j.steps[s.Who]
	if s.N >= 1 && s.N <= len(had) {
		if had[s.N-1] == s {
			return nil
		}
		if !j.rewind[s.Who] {
			return fmt.Errorf("%s took step %d twice:\n%+v\n%+v", s.Who, s.N, had[s.N-1], s)
		}
		had = had[:s.N-1]
	}
	delete(j.rewind, s.Who)
	if s.N != len(had)+1 {
		return fmt.Errorf("%s took step %d after step %d", s.Who, s.N, len(had))
	}
	if len(had) > 0 {
		if err := follows(had[len(had)-1], s); err != nil {
			return fmt.Errorf("%s, step %d: %w", s.Who, s.N, err)
		}
	}
	j.steps[s.Who] = append(had, s)
	return nil
}

// follows checks two steps of the same thread.
func follows(a, b step.Step) error {
	if a.IDs != b.IDs {
		return fmt.Errorf("its ids were %q and are %q", a.IDs, b.IDs)
	}
	if b.Count < a.Count {
		return fmt.Errorf("it had counted %d and has %d", a.Count, b.Count)
	}
	mono, real := time.Duration(b.Mono-a.Mono), time.Duration(b.Real-a.Real)
	// The two clocks are read one after the other, by a thread that may lose
	// its CPU in between, or be saved there.
	slack := patience / 120
	if mono < 0 || mono > real+slack {
		return fmt.Errorf("CLOCK_MONOTONIC went by %v while %v passed", mono, real)
	}
	return nil
}

// Who lists all who have taken steps.
func (j *Journal) Who() []string { return slices.Sorted(maps.Keys(j.steps)) }

// Last is the last step of who; N is 0 if there is none.
func (j *Journal) Last(who string) step.Step {
	s := j.steps[who]
	if len(s) == 0 {
		return step.Step{Who: who}
	}
	return s[len(s)-1]
}
