// Package dump is the order of work when a container is saved. It knows no
// kind of resource: those stand in the tables of kind/all.
//
// The container is stopped, looked at, asked, and its memory copied; then the
// image is made safe on disk, and only then the container is ended. Until
// that instant every step can be taken back, and if ckpt is killed the kernel
// takes it back (tracee heals what was injected).
package dump

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/pidns"
)

// Source is what is to be saved: a container, or a tree of processes that
// ckpt did not start (Adopt).
type Source struct {
	Name     string
	Command  []string
	Comm     string        // name of the process Root
	Root     pidns.HostPID // all others descend from it: vpid 1 of a container
	MainVPID pidns.VPID
	NoInit   bool // vpid 1 is the command itself and part of the image
	Adopted  bool // Root is the command, and no container has been made for it yet
	OwnNet   bool
	Key      string // container.Record.Key
	LogPath  string // "" if it has no log
	// SessionKeyring is container.Record.SessionKeyring.
	SessionKeyring int
	Schedule       *image.Schedule // for the image to tell; nil: none
	// Console is its terminal; nil: it has none, or nobody serves it.
	Console *Console
}

// Options of a dump.
type Options struct {
	Dir          string
	Stream       *Stream // where the image goes instead of Dir; nil: nowhere
	Image        image.Options
	LeaveRunning bool
	Outside      kind.Outside
	External     []string // see kind.External
	Log          *slog.Logger
	// Leave is called before something is made that outlives the container on
	// this machine until it is restored: an nftables table. May be nil.
	Leave func(table string) error
	// Commit is called once the image is whole and on disk, right before the
	// container is ended. If it fails, so does the dump. May be nil.
	Commit func(dir string) error
}

// Stream is an image that goes somewhere in one go, see image.CreateStream.
type Stream struct {
	Out   io.Writer
	Spool string
}

// create starts the image.
func (o Options) create(ctx context.Context) (*image.Writer, error) {
	to := o.Image
	to.Context = ctx
	if o.Stream != nil {
		return image.CreateStream(o.Stream.Out, o.Stream.Spool, to)
	}
	return image.Create(o.Dir, to)
}

// Result tells what a dump did.
type Result struct {
	Processes int    `json:"processes"`
	Threads   int    `json:"threads"`
	Bytes     uint64 `json:"bytes"` // of process memory in the image
	image.Amounts
	Frozen time.Duration `json:"frozen_ns"`
	Total  time.Duration `json:"total_ns"`
}

// Run saves the container into o.Dir, or o.Stream. On any error, and when ctx ends,
// the container goes on as it was and o.Dir does not exist.
func Run(ctx context.Context, src Source, o Options) (*Result, error) {
	var res *Result
	// Every ptrace request must come from the thread that attached (ptrace(2));
	// the thread ends with the dump, and with it lets go whatever it traces.
	err := kernel.OnThread(func() (err error) {
		res, err = run(ctx, src, o)
		return err
	})
	return res, failure.Interrupted(ctx, err)
}

func run(ctx context.Context, src Source, o Options) (_ *Result, err error) {
	began := time.Now()
	out, err := o.create(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(failure.Interrupted(ctx, err), out.Abort())
		}
	}()

	s, err := save(ctx, src, o, out, nil)
	if last := busyOnly(err); last != nil {
		first := s // its files tell when the data has been taken
		defer first.close()
		if err := first.thaw(); err != nil {
			return nil, err
		}
		first.phase.End()
		s, err = save(ctx, src, o, out, last)
	}
	if s != nil {
		defer s.close()
		defer func() { err = errors.Join(failure.Interrupted(ctx, err), s.thaw()) }() // does nothing once the container has ended
	}
	if err != nil {
		return nil, err
	}
	res := &Result{Processes: len(s.d.Procs), Threads: s.threads(), Bytes: s.bytes}
	if o.LeaveRunning {
		if err := s.thaw(); err != nil {
			return nil, err
		}
		res.Frozen = time.Since(s.since)
	} else if err := s.commit(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	manifest, err := s.manifest()
	if err != nil {
		return nil, err
	}
	var confirm func() error
	if o.Commit != nil && !o.LeaveRunning {
		confirm = func() error { return o.Commit(o.Dir) }
	}
	if err := out.CommitIf(manifest, confirm); err != nil {
		return nil, err
	}
	res.Amounts = out.Amounts()
	if o.LeaveRunning {
		res.Total = time.Since(began)
		return res, nil
	}
	s.aboutToEnd()
	s.end()
	res.Frozen, res.Total = time.Since(s.since), time.Since(began)
	return res, nil
}

// save stops the container, those in last after the others, and writes all but
// the manifest. Beside an error, too, there is a session, unless that kept it
// from being made.
func save(ctx context.Context, src Source, o Options, out *image.Writer, last *lastly) (*session, error) {
	s, err := newSession(src, o, out)
	if err != nil {
		return nil, err
	}
	s.last = last
	if err := s.joinNamespaces(); err != nil {
		return s, s.died(err)
	}
	s.since = time.Now()
	if err := s.freeze(ctx); err != nil {
		return s, s.died(err)
	}
	if err := s.holdConsole(); err != nil {
		return s, err
	}
	if err := s.save(ctx); err != nil {
		return s, s.died(err)
	}
	return s, nil
}

// commit lets the kinds make what must be there when the container has ended.
func (s *session) commit() error {
	for _, k := range s.kinds.Files {
		if k.Commit == nil {
			continue
		}
		if err := k.Commit(s.d); err != nil {
			return &failure.Error{Doing: "dump", What: k.Name, Err: err}
		}
	}
	return nil
}

// aboutToEnd lets the kinds keep the container's end from being seen outside.
func (s *session) aboutToEnd() {
	seen := func(kind string, err error) {
		if err != nil {
			s.log.Warn("the container's end may be seen from outside", "kind", kind, "why", err)
		}
	}
	for _, k := range s.kinds.Files {
		if k.End != nil {
			seen(k.Name, k.End(s.d))
		}
	}
	for _, p := range s.d.Procs {
		for _, t := range p.Threads {
			for _, k := range s.kinds.Threads {
				if k.End != nil {
					seen(k.Name, k.End(s.d, p, t))
				}
			}
		}
	}
}

// end kills all processes. Threads that ckpt traces stay zombies until ckpt
// has waited for them.
func (s *session) end() {
	if err := s.origin.end(); err != nil {
		s.log.Warn("the image is whole, but not every process has been ended", "why", err)
	}
	s.ended = true
	_ = s.hand.Kill() // else it would be waited for, too
	s.hand = nil
	for {
		var ws unix.WaitStatus
		_, err := unix.Wait4(-1, &ws, unix.WALL|unix.WNOTHREAD, nil)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
	}
}
