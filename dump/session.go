package dump

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"time"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"golang.org/x/sys/unix"

	"ckpt/container"
	"ckpt/failure"
	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/kind/all"
	"ckpt/pidns"
	"ckpt/procfs"
	"ckpt/tracee"
)

// session is one dump, or one check, under way.
type session struct {
	src    Source
	origin origin
	log    *slog.Logger
	out    *image.Writer // nil while checking
	kinds  all.Kinds
	d      *kind.Dump

	// procs are all processes of the walk, vpid 1 among them, by host pid;
	// order is the order they were found in: parents first.
	procs  map[int]*kind.Proc
	self   *procfs.Proc // ckpt itself
	order  []*kind.Proc
	level  int          // of the pid namespace whose ids they are saved with, see pidns.Level
	table  *pidns.Table // filled once all are stopped
	spaces []*space     // namespaces made inside
	users  *users       // those of users, and whose the others are

	files    []*kind.Desc // one a saved open file description
	byObject map[objectKey][]*kind.Desc
	ordered  map[objectKey][]*kind.Desc // those of processes, as kcmp(2) orders them
	ids      map[string]uint32
	bytes    uint64
	counters counters
	logID    unix.Stat_t
	logFiles []uint32
	injected []*tracee.Injection // still in place, oldest first
	hand     *tracee.Thread      // for Dump.Inside
	handSite tracee.Site
	hidden   *tracee.Thread // for Dump.Within
	since    time.Time      // when the container began to be stopped
	ended    bool
	overs    []over          // what ends with the dump
	shows    []byte          // what is seen on its console
	progress *image.Progress // nil: nobody looks
	phase    *image.Phase    // of it, which counts just now
	last     *lastly         // nil: all are stopped in the order they are met
}

func newSession(src Source, o Options, out *image.Writer) (*session, error) {
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	self, err := procfs.Open(os.Getpid())
	if err != nil {
		return nil, err
	}
	privileged, err := kernel.Privileged()
	if err != nil {
		self.Close()
		return nil, err
	}
	suspends, err := kernel.SuspendsSeccomp()
	if err != nil {
		self.Close()
		return nil, err
	}
	s := &session{self: self, src: src, log: log, out: out, progress: o.Image.Progress, kinds: all.New(), procs: map[int]*kind.Proc{},
		byObject: map[objectKey][]*kind.Desc{},
		ordered:  map[objectKey][]*kind.Desc{},
		// System V segments go by their own, small numbers; others begin above.
		ids: map[string]uint32{"shmem": 1 << 31}}
	if src.LogPath != "" {
		_ = unix.Stat(src.LogPath, &s.logID) // a log that is gone is no log: its descriptors are ordinary files
	}
	s.origin = originOf(s)
	home, level, err := s.origin.home()
	if err != nil {
		self.Close()
		return nil, err
	}
	s.level = level
	s.d = &kind.Dump{
		Log: log, Out: out, Home: home, ContainerHome: home, OwnNet: src.OwnNet, Adopted: src.Adopted, Main: src.MainVPID, Privileged: privileged, SuspendsSeccomp: suspends, SessionKeyring: src.SessionKeyring,
		Outside: o.Outside, External: externals(o.External), Table: fmt.Sprintf("ckpt-%s-%08x", src.Name, rand.Uint32()), Leave: o.Leave, Over: s.over,
		Console: src.Console.master(), ConsoleFD: container.CarriedFD,
		FileID: s.fileID, AddFile: s.addFile, RefuseFile: s.refuseFile,
		NewID: s.newID, IsLog: s.isLog, MountsOf: s.mountsOf,
	}
	s.d.HostPID = func(v pidns.VPID) (pidns.HostPID, bool) { return s.table.Host(v) }
	s.d.VPID = func(h pidns.HostPID) (pidns.VPID, bool) { return s.table.Virtual(h) }
	return s, nil
}

// over is what ends with the dump, see Dump.Over.
type over struct {
	what string
	fn   func() error
}

func (s *session) over(what string, fn func() error) { s.overs = append(s.overs, over{what, fn}) }

// endOvers ends all that is registered so far.
func (s *session) endOvers() error {
	var errs []error
	for i := len(s.overs) - 1; i >= 0; i-- {
		if err := s.overs[i].fn(); err != nil {
			errs = append(errs, &failure.Error{Doing: "dump", What: s.overs[i].what, Err: err})
		}
	}
	s.overs = nil
	return errors.Join(errs...)
}

// outer is the id that the container knows of a list of ids, one a pid
// namespace.
func (s *session) outer(ns []int) pidns.VPID { return pidns.ChainOf(ns, s.level).Outer() }

func (s *session) threads() (n int) {
	for _, p := range s.d.Procs {
		if !p.Zombie {
			n += len(p.Threads)
		}
	}
	return n
}

func (s *session) newID(what string) uint32 {
	s.ids[what]++
	return s.ids[what]
}

func (s *session) isLog(st unix.Stat_t) bool {
	return s.logID.Ino != 0 && st.Dev == s.logID.Dev && st.Ino == s.logID.Ino
}

func (s *session) add(e *fdinfo.FileEntry) error { return s.out.Add(image.Files, "", e) }

// peek is Dump.Peek while only checking, when hardly anybody needs the bare child.
func (s *session) peek(build, read func(*tracee.Script) error) (err error) {
	if s.hand == nil {
		if s.hand, s.handSite, err = newHand(s.origin.joins(), s.src.Console.master()); err != nil {
			return err
		}
		s.d.Hand = pidns.HostPID(s.hand.PID)
	}
	return inNamespaces(s.hand, s.handSite)(build, read)
}

// joinNamespaces starts the bare child for Dump.Inside.
func (s *session) joinNamespaces() (err error) {
	if s.hand, s.handSite, err = newHand(s.origin.joins(), s.src.Console.master()); err != nil {
		return &failure.Error{Doing: "dump", Err: err}
	}
	s.d.Inside, s.d.Hand = inNamespaces(s.hand, s.handSite), pidns.HostPID(s.hand.PID)
	s.d.Peek = s.d.Inside
	s.d.Whole, s.d.As, s.d.AsID = s.whole, s.as, s.asID
	s.d.Apart = s.apart
	s.d.Within, s.d.Hidden = s.runHidden, func() pidns.HostPID { return pidns.HostPID(s.hidden.PID) }
	return nil
}
