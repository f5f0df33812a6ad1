// Package restore is the order of work when a container is brought back. It
// knows no kind of resource: those stand in the tables of kind/all.
//
// The image is read and checked; bare children are born at the right ids
// (package tree compiles how); each becomes its process by running scripts
// that the kinds have added to; and only when all stand ready, they are let
// go. Until then the death of ckpt kills them, and an error undoes
// everything.
package restore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"ckpt/container"
	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/kind/all"
	"ckpt/pidns"
	"ckpt/restore/tree"
	"ckpt/tracee"
)

// Options of a restore.
type Options struct {
	Dir          string
	Stream       *os.File          // the image as a stream, which Dir names for the user; nil: it is in Dir
	Keys         image.Keys        // for the image
	LogFile      *os.File          // the container's log, open for appending
	AllowChanged []string          // paths of files that may differ from what they were
	Moves        map[string]string // old and new paths, absolute and clean, see kind.Moved
	AnyCPU       bool              // whatever instructions the processor lacks
	Groups       []uint32          // kind.Restore.Groups
	Names        kind.Names        // kind.Restore.Names
	Log          *slog.Logger
	Progress     *image.Progress // counts; nil: nobody looks
	// Commit is called when every process stands ready and none runs yet. If
	// it fails, so does the restore. May be nil.
	Commit func(*Result) error
}

// open opens the image.
func (o Options) open() (*image.Reader, error) {
	if o.Stream != nil {
		return o.Keys.OpenStream(o.Stream, o.Dir)
	}
	return o.Keys.Open(o.Dir)
}

// Result is the restored container.
type Result struct {
	Root      *container.Root
	Terminal  *container.Terminal // nil: it has none
	Manifest  *image.Manifest
	Key       string
	MainVPID  pidns.VPID
	MainHost  pidns.HostPID
	Processes int
	Threads   int
	Bytes     uint64
	Total     time.Duration
}

// Run brings back the container saved in o.Dir. The calling goroutine must be
// locked to its OS thread, which ends up as the parent of the container's
// first process. On any error, and when ctx ends, nothing is left.
func Run(ctx context.Context, o Options) (_ *Result, err error) {
	began := time.Now()
	if o.Log == nil {
		o.Log = discard
	}
	in, err := o.open()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	in.Until(ctx)
	in.Report(o.Progress)
	s := &session{o: o, in: in, kinds: all.New(), stubs: map[pidns.VPID]*tracee.Thread{}, born: map[pidns.VPID]pidns.Chain{}, ended: map[pidns.VPID]bool{},
		sites: map[uint32]tracee.Site{}, tables: map[uint32]*table{}, files: map[uint32]*file{}, spaces: map[space]*os.File{}, mounters: map[uint32]*inner{},
		executed: map[pidns.VPID]bool{}, heirs: map[pidns.VPID]pidns.VPID{}, bequeathed: map[pidns.VPID]bool{},
		first: map[space]*kind.Target{}, places: map[pidns.VPID]place{pidns.Init: place{}.born(0)}}
	defer func() {
		s.close()
		if err != nil {
			err = errors.Join(failure.Interrupted(ctx, err), s.undo())
			if s.terminal != nil {
				s.terminal.Shows.Close()
				_ = s.terminal.Master.Close()
			}
		}
	}()
	if err := s.load(); err != nil {
		return nil, err
	}
	s.contents = o.Progress.Begin(image.PhaseFiles, 0)
	s.r.Memory = o.Progress.BeginOf(len(s.r.Targets), image.PhaseMemory, s.r.Manifest.GetMemory())
	// The pages are compared with their checksums meanwhile, where there are
	// any: nothing runs before all of it is known to be right.
	verifying, stop := context.WithCancel(ctx)
	sums := make(chan error, 1)
	go func() { sums <- verify(verifying, in) }()
	if err = s.build(ctx); err != nil {
		err = s.died(err)
		stop()
	} else {
		s.r.Memory.End()
	}
	verr := <-sums
	stop()
	if damaged := errors.Is(verr, failure.ErrDamaged); damaged || err == nil && verr != nil {
		return nil, s.damaged(verr) // what was built on damaged pages failed for that
	}
	if err != nil {
		return nil, err
	}
	res := s.result(began)
	if o.Commit != nil {
		if err := o.Commit(res); err != nil {
			return nil, err
		}
	}
	if err := s.letGo(); err != nil {
		return nil, err
	}
	res.Total = time.Since(began)
	return res, nil
}

// verify compares all checksums; an image of criu's has none.
func verify(ctx context.Context, in *image.Reader) error {
	if !in.Checksums() {
		return nil
	}
	return in.Verify(ctx)
}

// damaged tells of the first damaged part; there may be thousands.
func (s *session) damaged(err error) error {
	hint := "ckpt verify " + failure.Quote(s.o.Dir) + " lists every damaged part"
	switch {
	case s.o.Stream != nil:
		hint = "nothing was started: take another copy of the stream"
	case !s.checks:
		hint = "nothing was started; " + hint
	}
	return failure.WithHint(fmt.Errorf("%s: %w", s.o.Dir, failure.All(err)[0]), hint)
}

var discard = slog.New(slog.DiscardHandler)

// session is one restore under way.
type session struct {
	o Options
	// checks: nothing is to be made. What of this machine does not fit is kept in
	// unfit, and the rest is looked at all the same.
	checks bool
	unfit  []error
	in     *image.Reader
	kinds  all.Kinds
	r      *kind.Restore
	root   *container.Root
	// terminal is its own, as it is handed on.
	terminal *container.Terminal
	inner    *inner      // the thread inside the container's namespaces
	at       *inner      // where kinds are at work just now
	ask      chan func() // what only the tracing thread can do

	spaces   map[space]*os.File // namespaces made inside, and the container's own that are needed
	made     []space            // those made inside but for those of users, in the order they were
	first    map[space]*kind.Target
	mounters map[uint32]*inner // threads in those of mounts, by mnt_ns_id
	owners   owners
	places   map[pidns.VPID]place // where the bare children are just now
	parcels  *os.File             // on which those in user namespaces made inside get files; nil: there are none
	queued   map[*tracee.Script][]*os.File

	ids  identities
	held ended
	// endings are the steps that come when those that are about to end have
	// done what only they can.
	endings    []tree.Step
	told       map[pidns.VPID][]unix.Signal  // tree.Told
	stubs      map[pidns.VPID]*tracee.Thread // bare children by the id inside
	born       map[pidns.VPID]pidns.Chain    // their ids
	ended      map[pidns.VPID]bool           // those of them that were told to end
	stillborn  pidns.VPID                    // one that was killed before it could be told anything; 0: none
	area       kind.Range                    // where scripts stand, the same in all
	sites      map[uint32]tracee.Site        // of each address space, by vm_id
	tables     map[uint32]*table             // of descriptors, by files_id
	files      map[uint32]*file
	undos      []undo
	executed   map[pidns.VPID]bool       // those that have executed a program as bare children
	others     *relations                // see executes
	program    *os.File                  // which
	heirs      map[pidns.VPID]pidns.VPID // kind.Target.Heir of bare children
	bequeathed map[pidns.VPID]bool
	carriers   map[pidns.VPID]bool // see carriersOf
	pidMax     int                 // of the container, until setPIDMax
	limits     []limit
	done       bool // nothing to undo any more
	contents   *image.Phase
}

type undo struct {
	what string
	fn   func() error
}

// build makes everything but lets nothing run.
func (s *session) build(ctx context.Context) error {
	if err := inTurn(ctx, s.checked, s.create); err != nil {
		return err
	}
	lives, err := s.dieWith(ctx)
	if err != nil {
		return err
	}
	err = inTurn(ctx, s.enter, s.counted(s.namespaces), s.tree, s.execute, s.openPIDMax, s.makeSpaces, s.goOn, s.fillBorn, s.processes, s.verify, s.setPIDMax, s.finish)
	if !lives() && err == nil {
		err = ctx.Err()
	}
	return err
}

// counted has what a step reads counted as contents of files and objects.
func (s *session) counted(step func() error) func() error {
	return func() error {
		s.in.Count(s.contents)
		defer s.in.Count(nil)
		return step()
	}
}

// inTurn takes steps until one fails, or ctx ends.
func inTurn(ctx context.Context, steps ...func() error) error {
	for _, step := range steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := step(); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// undo kills what has been made and takes back what outlives it, the last
// first.
func (s *session) undo() error {
	if s.done {
		return nil
	}
	var errs []error
	if s.root != nil {
		errs = append(errs, s.root.Destroy())
	}
	for i := len(s.undos) - 1; i >= 0; i-- {
		if err := s.undos[i].fn(); err != nil {
			errs = append(errs, &failure.Error{Doing: "undo the restore", What: s.undos[i].what, Err: err})
		}
	}
	return errors.Join(errs...)
}

// close gives up what ckpt holds for the restore; the processes have their
// own by now, or will never need any.
func (s *session) close() {
	for _, f := range s.files {
		if f.f != nil {
			_ = f.f.Close()
		}
	}
	for _, l := range s.limits {
		_ = l.file.Close()
	}
	if s.program != nil {
		_ = s.program.Close()
	}
	if s.inner != nil {
		s.inner.end()
	}
	s.closeParcels()
	s.leaveSpaces()
	if s.r != nil && s.r.HostProc != nil {
		_ = s.r.HostProc.Close()
	}
}

func (s *session) result(began time.Time) *Result {
	res := &Result{Root: s.root, Terminal: s.terminal, Manifest: s.r.Manifest, Key: s.root.Key, MainVPID: pidns.VPID(s.r.Manifest.GetMainVpid()), Bytes: s.r.Manifest.GetMemory(),
		Processes: len(s.r.Targets), Total: time.Since(began)}
	res.MainHost, _ = s.hostPID(res.MainVPID)
	for _, t := range s.r.Targets {
		if !t.Zombie {
			res.Threads += len(t.Threads)
		}
	}
	return res
}

// fail tells of which process err is.
func (s *session) fail(t *kind.Target, what string, err error) error {
	if err == nil {
		return nil
	}
	return &failure.Error{Doing: "restore", VPID: int(t.VPID), Comm: t.TC.GetComm(), What: what, Err: err}
}
