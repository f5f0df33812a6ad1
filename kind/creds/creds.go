// Package creds is who a thread is to the kernel: user and group ids,
// supplementary groups, capabilities, securebits, no_new_privs, and what hangs
// on them: the parent-death signal and whether the process may be traced
// ("dumpable"). Credentials belong to threads (credentials(7)).
//
// # What the kernel shows
//
// Ids, groups, capability sets and NoNewPrivs in /proc/TID/status; the rest a
// thread can only ask for itself with prctl(2).
//
// # What is saved
//
// In core-VPID.img ids as seen inside the container, through its uid_map and
// gid_map, never the host's. The ambient set and no_new_privs stand in
// ckpt-task-VPID.img.
//
// Supplementary groups that have no number inside (an ordinary user's groups
// on the host, user_namespaces(7)) read as 65534 there. Nobody inside can
// change them; a restored process has those of whoever restores.
//
// # What is lost
//
// Capabilities that whoever restores does not have; the log names them. That
// who is root in a user namespace made inside may look into a process there that
// is not dumpable; the log says so.
// no_new_privs cannot be taken back if ckpt itself runs with it. A dumpable
// of 2 becomes 0, which is as strict.
//
// # Needs
//
// Ambient capabilities (4.3, commit 58319057b784).
package creds

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/creds"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/procfs"
	"ckpt/tracee"
)

// overflow is what an id without a mapping reads as (user_namespaces(7)).
const overflow = 65534

// New gives what belongs to a process (dumpable, security labels) and what
// belongs to each thread. In the table of kinds the thread's half comes last:
// what is after it runs without the rights the bare child has.
func New() (kind.Process, kind.Thread) {
	d, m := &saver{}, &maker{}
	process := kind.Process{
		Name:    "dumpable",
		Saves:   "whether a process may be looked into (PR_SET_DUMPABLE)",
		Observe: d.observeProcess,
		Ask:     askDumpable,
		Leave:   m.leave,
		Arrive:  m.arrive,
		Restore: restoreDumpable,
	}
	thread := kind.Thread{
		Name:        "credentials",
		Saves:       "of each thread user and group ids, groups, capability sets with the ambient one, securebits, no_new_privs, the parent-death signal",
		Refuses:     "confinement by a security module; ids that have no number in the container",
		Needs:       "root, for ids other than one's own",
		Observe:     d.observe,
		Ask:         ask,
		Restore:     m.restore,
		Check:       check,
		Unseen:      unseen,
		ObserveDead: d.observeDead,
		RestoreDead: m.restoreDead,
		Limits: "capabilities that whoever restores lacks are not given, and the log names them; " +
			"into a process that is not dumpable, in a user namespace made inside, only who has rights over the whole container can look",
	}
	return process, thread
}

// unseen: only one who is stopped can be made to try what Landlock denies.
func unseen(t *kind.Task) string {
	if t.Status != nil && t.Status.NoNewPrivs { // else few have such rules
		return "rules of Landlock"
	}
	return ""
}

// saver holds what is the same for the whole container.
type saver struct {
	known    bool
	uid, gid procfs.IDMaps // nil: ckpt is in the container's user namespace
	label    string        // ckpt's own security label
	labels   bool          // whether there is a module that gives labels
}

func (s *saver) learn(d *kind.Dump) error {
	if s.known {
		return nil
	}
	self, err := procfs.Open(os.Getpid())
	if err != nil {
		return err
	}
	defer self.Close()
	init, err := procfs.Open(int(d.Home))
	if err != nil {
		return err
	}
	defer init.Close()
	own, err := self.StatLink("ns/user")
	if err != nil {
		return err
	}
	its, err := init.StatLink("ns/user")
	if err != nil {
		return err
	}
	if own.Ino != its.Ino {
		if s.uid, err = init.UIDMap(); err != nil {
			return err
		}
		if s.gid, err = init.GIDMap(); err != nil {
			return err
		}
	}
	if s.label, s.labels, err = label(self); err != nil {
		return err
	}
	s.known = true
	return nil
}

// label reads /proc/PID/attr/current. EINVAL: no security module gives labels.
func label(p *procfs.Proc) (string, bool, error) {
	b, err := p.Read("attr/current")
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return "", false, nil
	}
	return strings.TrimRight(string(b), "\n\x00"), true, err
}

func (s *saver) observeProcess(d *kind.Dump, p *kind.Proc) error {
	if err := s.learn(d); err != nil {
		return err
	}
	if !s.labels {
		return nil
	}
	l, _, err := label(p.Lead().FS)
	if err != nil {
		return err
	}
	return checkLabel(l, s.label)
}

// checkLabel: a restored process gets the label of whoever restores. That is
// right for one that has no confinement, or that of ckpt itself.
func checkLabel(its, own string) error {
	if its == own || its == "" || its == "unconfined" || strings.Contains(its, "unconfined_t") {
		return nil
	}
	return failure.WithHint(failure.Unsupportedf("a security module confines it (%s)", its),
		"start the container under ckpt without a profile of its own")
}

// Fields of CRIU's creds_entry.
const (
	fieldNoNewPrivs = 18
	fieldCapAmb     = 19
)

func (s *saver) observe(d *kind.Dump, _ *kind.Proc, t *kind.Task) error {
	if err := s.learn(d); err != nil {
		return err
	}
	e, err := s.entry(t.Status)
	if err != nil {
		return err
	}
	if t.Core == nil {
		return nil // only checking
	}
	t.Core.ThreadCore.Creds = e
	t.Extra.CapAmb, t.Extra.NoNewPrivs = t.Status.CapAmb, t.Status.NoNewPrivs
	addNewer(e, t.Status.CapAmb, t.Status.NoNewPrivs)
	return nil
}

// addNewer says in CRIU's words, too, what stands in Thread.
func addNewer(e *creds.CredsEntry, ambient uint64, noNewPrivs bool) {
	if noNewPrivs {
		image.AddNewer(e, fieldNoNewPrivs, 1)
	}
	if ambient != 0 {
		for _, v := range split(ambient) {
			image.AddNewer(e, fieldCapAmb, uint64(v))
		}
	}
}

// observeDead: those of a zombie are still seen: in wait(2) and SIGCHLD
// (si_uid), in /proc, and by who asks whether he may look at it.
func (s *saver) observeDead(d *kind.Dump, p *kind.Proc, t *kind.Task) error {
	if t.Core != nil {
		// The message wants these of a living one.
		t.Core.ThreadCore = &criu_core.ThreadCoreEntry{FutexRla: proto.Uint64(0), FutexRlaLen: proto.Uint32(0)}
	}
	return s.observe(d, p, t)
}

// entry translates the ids and splits the capability sets as CRIU does, in
// words of 32 bits, the low one first.
func (s *saver) entry(st *procfs.Status) (*creds.CredsEntry, error) {
	var uid, gid [4]uint32
	for i := range uid {
		var ok bool
		if uid[i], ok = inside(s.uid, st.Uid[i]); !ok {
			return nil, failure.Unsupportedf("its user id %d on the host has no number in the container's user namespace", st.Uid[i])
		}
		if gid[i], ok = inside(s.gid, st.Gid[i]); !ok {
			return nil, failure.Unsupportedf("its group id %d on the host has no number in the container's user namespace", st.Gid[i])
		}
	}
	e := &creds.CredsEntry{
		Uid: &uid[0], Euid: &uid[1], Suid: &uid[2], Fsuid: &uid[3],
		Gid: &gid[0], Egid: &gid[1], Sgid: &gid[2], Fsgid: &gid[3],
		CapInh: split(st.CapInh), CapPrm: split(st.CapPrm), CapEff: split(st.CapEff), CapBnd: split(st.CapBnd),
		Secbits: proto.Uint32(0),
	}
	for _, g := range st.Groups {
		in, ok := inside(s.gid, g)
		if !ok {
			in = overflow
		}
		e.Groups = append(e.Groups, in)
	}
	return e, nil
}

func inside(m procfs.IDMaps, id uint32) (uint32, bool) {
	if m == nil {
		return id, true
	}
	return m.Inside(id)
}

func split(set uint64) []uint32 { return []uint32{uint32(set), uint32(set >> 32)} }

func join(words []uint32) (set uint64) {
	for i, w := range words {
		if i < 2 {
			set |= uint64(w) << (32 * i)
		}
	}
	return set
}

func ask(_ *kind.Dump, p *kind.Proc, t *kind.Task, s *tracee.Script) (func() error, error) {
	bits := s.Must(unix.SYS_PRCTL, unix.PR_GET_SECUREBITS, 0, 0, 0, 0)
	s.Note(bits, "read securebits")
	out := s.Space(4)
	s.Note(s.Must(unix.SYS_PRCTL, unix.PR_GET_PDEATHSIG, out, 0, 0, 0), "read the parent-death signal")
	unconfined := askMount(p, t, s)
	return func() error {
		if err := unconfined(); err != nil {
			return err
		}
		v, err := s.Result(bits)
		if err != nil {
			return fmt.Errorf("read securebits: %w", err)
		}
		t.Core.ThreadCore.Creds.Secbits = proto.Uint32(uint32(v))
		if sig := binary.LittleEndian.Uint32(s.Bytes(out, 4)); sig != 0 {
			t.Core.ThreadCore.PdeathSig = proto.Uint32(sig)
		}
		return nil
	}, nil
}

func askDumpable(_ *kind.Dump, p *kind.Proc, s *tracee.Script) (func() error, error) {
	st := s.Must(unix.SYS_PRCTL, unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	s.Note(st, "read dumpable")
	return func() error {
		v, err := s.Result(st)
		if err != nil {
			return fmt.Errorf("read dumpable: %w", err)
		}
		p.MM.Dumpable = proto.Int32(int32(v))
		return nil
	}, nil
}
