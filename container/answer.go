package container

import (
	"encoding/json"
	"errors"
	"os"

	"ckpt/failure"
)

// Request is what a command asks of a new supervisor, as one line of JSON.
// Exactly one of Start and Restore is set.
type Request struct {
	State   string          `json:"state"` // the state directory
	Name    string          `json:"name"`
	Start   *StartRequest   `json:"start,omitempty"`
	Restore *RestoreRequest `json:"restore,omitempty"`
	// Tasks is how many processes and threads the container begins with.
	Tasks int `json:"tasks"`
	// Log is the least slog.Level the supervisor tells while it works.
	Log     int  `json:"log"`
	LogJSON bool `json:"log_json,omitempty"`
	// Schedule is how the container is to be saved by itself; nil: it is not.
	Schedule *Schedule `json:"schedule,omitempty"`
	// Image is the stream that Restore.Stream tells of.
	Image *os.File `json:"-"`
	// Attach: Attached is a connection to its terminal.
	Attach   bool        `json:"attach,omitempty"`
	Attached *Attachment `json:"-"`
	// Told is called by Launch with what the Maker tells (Tell), the last of it when
	// the container is made. nil: nobody listens.
	Told func(json.RawMessage) `json:"-"`
	// Listens: there is a Told.
	Listens bool `json:"listens,omitempty"`

	last json.RawMessage // that was told
}

// RestoreRequest is what a restore needs to know.
type RestoreRequest struct {
	Dir string `json:"dir"` // absolute
	// Stream: the image comes as a stream over a descriptor (StreamFD), and Dir
	// is how the user knows it.
	Stream       bool     `json:"stream,omitempty"`
	AllowChanged []string `json:"allow_changed,omitempty"`
	// Keys are the texts of files with keys for the image.
	Keys ImageKeys `json:"keys"`
	// Moves are old and new paths, absolute and clean.
	Moves map[string]string `json:"moves,omitempty"`
	// AnyCPU accepts a processor that lacks instructions.
	AnyCPU bool `json:"any_cpu,omitempty"`
	// Groups are those of the command's user: the supervisor is perhaps in a
	// user namespace where they have no numbers.
	Groups []uint32 `json:"groups,omitempty"`
}

// ImageKeys are the texts of files with keys (image.Keys).
type ImageKeys struct {
	Identities [][]byte `json:"identities,omitempty"`
	Verify     []byte   `json:"verify,omitempty"`
}

// Answer is what the supervisor tells the command that made it.
type Answer struct {
	Name      string      `json:"name"`
	VPID      int         `json:"vpid"` // of the command; 0: it has ended
	PID       int         `json:"pid"`  // the same on the host
	Processes int         `json:"processes"`
	Failure   []wireError `json:"failure,omitempty"`
	// Working: it is no answer yet, and has nothing but Told.
	Working bool            `json:"working,omitempty"`
	Told    json.RawMessage `json:"told,omitempty"`
}

// wireError carries an error over a pipe so that it looks the same on the
// other side: message, hints, exit code.
type wireError struct {
	Message string   `json:"message"`
	Hints   []string `json:"hints,omitempty"`
	Code    int      `json:"code"`
}

func toWire(err error) []wireError {
	var out []wireError
	for _, e := range failure.All(err) {
		out = append(out, wireError{e.Error(), failure.Hints(e), failure.Code(e)})
	}
	return out
}

func fromWire(ws []wireError) error {
	var errs []error
	for _, w := range ws {
		err := errors.New(w.Message)
		if s := sentinel(w.Code); s != nil {
			err = failure.Mark(s, err)
		}
		if len(w.Hints) > 0 {
			err = failure.WithHint(err, w.Hints...)
		}
		errs = append(errs, err)
	}
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}

func sentinel(code int) error {
	switch code {
	case failure.CodeUsage:
		return failure.ErrUsage
	case failure.CodeUnsupported:
		return failure.ErrUnsupported
	case failure.CodeDamaged:
		return failure.ErrDamaged
	case failure.CodeName:
		return failure.ErrNameTaken
	case failure.CodeInterrupted:
		return failure.ErrInterrupted
	}
	return nil
}
