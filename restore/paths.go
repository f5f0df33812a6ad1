package restore

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/kind"
)

// move puts the new path of every file that has moved (Options.Moves) in the
// place of the one that stands in the image. An old path that is no file's is
// refused: mistyped, it would move nothing.
func (s *session) move() error {
	used := map[string]bool{}
	s.r.MovedFrom = map[string]string{}
	to := func(path string) string {
		now, old := kind.Moved(s.o.Moves, path)
		if old != "" {
			used[old], s.r.MovedFrom[now] = true, path
		}
		return now
	}
	var errs []error
	for _, id := range slices.Sorted(maps.Keys(s.r.Entries)) {
		e := s.r.Entries[id]
		if e.GetReg() != nil {
			e.Reg.Name = proto.String(to(e.GetReg().GetName()))
		}
		// Some entries are no files of their own, but the name of one.
		if k, err := s.kindFor(e); err == nil && k.Move != nil {
			errs = append(errs, k.Move(e, to))
		}
	}
	for _, old := range slices.Sorted(maps.Keys(s.o.Moves)) {
		if !used[old] {
			errs = append(errs, s.unknown("--map "+failure.Quote(old+"="+s.o.Moves[old]), "no file of the image is at "+old+" or below it"))
		}
	}
	return errors.Join(errs...)
}

// checkAllowed refuses names of files that may differ and that are none of the
// image's, as move does.
func (s *session) checkAllowed() error {
	var errs []error
	for _, path := range s.o.AllowChanged {
		known := false
		for _, e := range s.r.Entries {
			name := e.GetReg().GetName()
			known = known || name != "" && s.allows(path, name)
		}
		if !known {
			errs = append(errs, s.unknown("--allow-changed "+path, "no process of the image has that file"))
		}
	}
	return errors.Join(errs...)
}

func (s *session) allowChanged(path string) bool {
	return slices.ContainsFunc(s.o.AllowChanged, func(asked string) bool { return s.allows(asked, path) })
}

// allows: a file that has moved goes by its old name, too.
func (s *session) allows(asked, name string) bool {
	return asked == name || s.r.MovedFrom[name] == asked && asked != ""
}

func (s *session) unknown(flag, what string) error {
	return failure.WithHint(failure.Mark(failure.ErrUsage, fmt.Errorf("restore: %s: %s", flag, what)),
		fmt.Sprintf("`ckpt inspect %s` lists the files", failure.Quote(s.o.Dir)))
}
