// Package failure is the one error type a user of ckpt meets: what was being
// done, to which process, which thing stood in the way, why, and what the
// user can do about it.
package failure

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
)

// Sentinels an Error may wrap. Each decides the exit code (see Code).
var (
	// ErrUnsupported: this kernel or ckpt cannot do it (exit code 3).
	ErrUnsupported = errors.New("not supported")
	// ErrDamaged: an image is not whole, or its contents contradict each other (exit code 4).
	ErrDamaged = errors.New("image damaged")
	// ErrIncompatible: an image is whole but made for something else (exit code 4).
	ErrIncompatible = errors.New("image incompatible")
	// ErrNoContainer: no container of that name (exit code 5).
	ErrNoContainer = errors.New("no such container")
	// ErrNameTaken: a container of that name exists (exit code 5).
	ErrNameTaken = errors.New("name taken")
	// ErrUsage: the command line is wrong (exit code 2).
	ErrUsage = errors.New("usage")
	// ErrInterrupted: a signal ended the work, which was undone (exit code 130).
	ErrInterrupted = errors.New("interrupted")
)

// Error is one thing that went wrong, told to the user.
// Kinds return plain errors; the drivers add the process and the thing.
type Error struct {
	Doing string   // "dump", "restore", "start": what was being done
	VPID  int      // process by its id inside the container; 0: none in particular
	Comm  string   // its name
	What  string   // the thing: "fd 12", "timer 3", a path
	Err   error    // why
	Hints []string // what the user can do, one sentence each, no full stop
}

// Error gives the message without hints, as "dump pid 7 (nginx): fd 12: why".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Doing)
	if e.VPID != 0 {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "pid %d", e.VPID)
		if e.Comm != "" {
			fmt.Fprintf(&b, " (%s)", e.Comm)
		}
	}
	for _, s := range []string{e.What, text(e.Err)} {
		if s == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteString(": ")
		}
		b.WriteString(s)
	}
	return b.String()
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Unwrap keeps the cause (an errno, a sentinel) reachable.
func (e *Error) Unwrap() error { return e.Err }

// WithoutPath is err without the operation and the path that a message has already
// (fs.PathError, however deep it is wrapped).
func WithoutPath(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}

// WithHint adds what the user can do to err; Hints finds it again however
// deep err is wrapped.
func WithHint(err error, hints ...string) error {
	if err == nil {
		return nil
	}
	return &hinted{err, hints}
}

type hinted struct {
	error
	hints []string
}

func (h *hinted) Unwrap() error { return h.error }

// marked gives an error a sentinel without repeating the sentinel's words.
type marked struct {
	error
	sentinel error
}

func (m *marked) Unwrap() []error { return []error{m.error, m.sentinel} }

// Interrupted is err, marked as ErrInterrupted where it comes of ctx having ended. What
// fails while the work is undone is joined to it after that, and told beside it.
func Interrupted(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil || errors.Is(err, ErrInterrupted) {
		return err
	}
	return Mark(ErrInterrupted, err)
}

// Mark makes errors.Is(err, sentinel) true and leaves the message alone.
func Mark(sentinel, err error) error {
	if err == nil {
		return nil
	}
	return &marked{err, sentinel}
}

// Unsupportedf is a refusal: its message is the reason.
func Unsupportedf(format string, args ...any) error {
	return Mark(ErrUnsupported, fmt.Errorf(format, args...))
}

// Damagedf says what is wrong with an image.
func Damagedf(format string, args ...any) error {
	return Mark(ErrDamaged, fmt.Errorf(format, args...))
}

// Hints collects the hints of err and of all it wraps, outermost first. Where
// nobody has any, what means the same whatever was being done has one.
func Hints(err error) []string {
	out := hints(err)
	switch {
	case len(out) > 0:
	case errors.Is(err, ErrDamaged):
		out = []string{"what is damaged cannot be mended: take another copy of the image"}
	case errors.Is(err, syscall.EMFILE):
		out = []string{"allow ckpt more open files (ulimit -Hn)"}
	case errors.Is(err, syscall.EFBIG):
		out = []string{"raise the limit on file sizes (ulimit -f)"}
	case errors.Is(err, syscall.ENFILE):
		out = []string{"allow more open files on this machine (sysctl fs.file-max), or end programs that have many"}
	default:
		if h := hintOfPath(err); h != "" {
			out = []string{h}
		}
	}
	return out
}

func hints(err error) []string {
	var out []string
	for err != nil {
		switch e := err.(type) {
		case *Error:
			out = append(out, e.Hints...)
		case *hinted:
			out = append(out, e.hints...)
		}
		switch u := err.(type) {
		case interface{ Unwrap() error }:
			err = u.Unwrap()
		case interface{ Unwrap() []error }:
			for _, e := range u.Unwrap() {
				out = append(out, hints(e)...)
			}
			return out
		default:
			return out
		}
	}
	return out
}

// All splits an error made by errors.Join into its parts, each told on a
// line of its own. Several reasons of one Error become an Error each.
func All(err error) []error {
	if err == nil {
		return nil
	}
	if e, ok := err.(*Error); ok {
		reasons := All(e.Err)
		if len(reasons) < 2 {
			return []error{err}
		}
		var out []error
		for _, why := range reasons {
			one := *e
			one.Err = why
			out = append(out, &one)
		}
		return out
	}
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		if _, mark := err.(*marked); !mark {
			var out []error
			for _, e := range j.Unwrap() {
				out = append(out, All(e)...)
			}
			return out
		}
	}
	return []error{err}
}

// Exit codes of ckpt, never renumbered.
const (
	CodeDone        = 0
	CodeFailed      = 1
	CodeUsage       = 2
	CodeUnsupported = 3
	CodeDamaged     = 4
	CodeName        = 5
	CodeInterrupted = 130
)

// Code is the exit code err stands for.
func Code(err error) int {
	switch {
	case err == nil:
		return CodeDone
	case errors.Is(err, ErrInterrupted):
		return CodeInterrupted
	case errors.Is(err, ErrUsage):
		return CodeUsage
	case errors.Is(err, ErrNoContainer), errors.Is(err, ErrNameTaken):
		return CodeName
	case errors.Is(err, ErrDamaged), errors.Is(err, ErrIncompatible):
		return CodeDamaged
	case errors.Is(err, ErrUnsupported):
		return CodeUnsupported
	}
	return CodeFailed
}
