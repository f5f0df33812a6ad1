// Package tty saves pseudoterminals whose both ends are inside the container
// (a program under script(1), tmux(1), an expect(1) script), and which
// session each of them controls.
//
// What the kernel shows: ioctl(2)s on the master (ioctl_tty(2)); the master
// is told by its device 5:2, a slave by 136:N, /dev/tty by 5:0.
//
// What is saved: index, attributes, window size, packet mode, lock, exclusive
// mode, owner and permissions of /dev/pts/N, session and foreground group;
// what waits to be read at each end, also a line that has not ended, and
// whether output is stopped (contents.go); flags and owner (F_SETOWN) of each
// description.
//
// What is lost: see Limits. Refused are terminals with an end outside the
// container, those with more under way than one read gives, and those of which a
// slave was hung up (vhangup(2)) while the master is open.
//
// Needs: TIOCGPTPEER, Linux 4.13.
package tty

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/regfile"
	ttyimg "github.com/checkpoint-restore/go-criu/v7/crit/images/tty"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/procfs"
)

// New gives pseudoterminals, and which of them controls the session of a
// process. The first comes before kind/regfile, which takes what else is a
// device.
func New() (kind.File, kind.Process) {
	s := &saver{ptys: map[uint32]*pty{}}
	r := &restorer{}
	c := &control{saver: s, restorer: r}
	file := kind.File{
		Name:    "terminal",
		Saves:   "pseudoterminals with their number, attributes, window size, packet mode, lock, exclusive mode, owner and permissions, what waits to be read at either end",
		Refuses: "a terminal from outside, or run from there; more than 4 KB under way one way; a change of state that waits in packet mode; a slave that was hung up (vhangup) while its master is open; another line discipline than the ordinary one",
		Needs:   "TIOCGPTPEER (4.13)",
		Unseen:  "what waits in terminals",
		Type:    fdinfo.FdTypes_TTY,
		Owns:    owns,
		Refuse:  s.refuse,
		Dump:    s.dump,
		Finish:  s.finish,
		Restore: r.restore,
		Limits: "what the master wrote before a slave was first opened, a line that has not ended where attributes are locked (TIOCSLCKTRMIOS) or EXTPROC is set, " +
			"and a stop of the master's own output (tcflow); " +
			"an open /dev/tty becomes the terminal's own /dev/pts/N where the leader of its session has ended; a slave held outside the container beside one inside is not noticed",
	}
	return file, kind.Process{
		Name:    "controlling terminal",
		Saves:   "which terminal a session has, and its foreground group",
		Refuses: "a terminal outside the container",
		Observe: c.observe, Ask: c.ask, Lead: c.lead, Restore: c.restore,
	}
}

// Devices (Documentation/admin-guide/devices.txt).
const (
	auxMajor   = 5 // 0 /dev/tty, 2 /dev/ptmx; 1, /dev/console, is the machine's
	slaveMajor = 136
	oldMajors  = 143 // 136 to 143 are those of slaves before devpts
)

func owns(d *kind.Desc) bool {
	if d.Stat.Mode&unix.S_IFMT != unix.S_IFCHR || d.Info.Flags&unix.O_PATH != 0 {
		return false
	}
	major, minor := unix.Major(d.Stat.Rdev), unix.Minor(d.Stat.Rdev)
	switch major {
	case 4: // consoles and serial lines
		return true
	case auxMajor:
		return minor == 0 || minor == 2
	}
	return major >= slaveMajor && major <= oldMajors
}

func isMaster(d *kind.Desc) bool { return d.Stat.Rdev == unix.Mkdev(auxMajor, 2) }

// index is N of /dev/pts/N; hungUp: the master is closed for good.
func index(d *kind.Desc) (n uint32, hungUp bool, err error) {
	if isMaster(d) {
		i, err := unix.IoctlGetUint32(int(d.File.Fd()), unix.TIOCGPTN)
		if err != nil {
			return 0, false, fmt.Errorf("ask for its number (TIOCGPTN): %w", err)
		}
		return i, false, nil
	}
	dev, err := unix.IoctlGetUint32(int(d.File.Fd()), unix.TIOCGDEV)
	if errors.Is(err, unix.EIO) {
		dev, hungUp, err = uint32(d.Stat.Rdev), true, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("ask which terminal it is (TIOCGDEV): %w", err)
	}
	if major := unix.Major(uint64(dev)); major < slaveMajor || major > oldMajors {
		if hungUp {
			return 0, true, failure.WithHint(failure.Unsupportedf("%s of a terminal that is gone", d.Link), "let the program close it before the dump")
		}
		return 0, false, failure.WithHint(
			failure.Unsupportedf("%s is a terminal outside the container", d.Link),
			"start the program with its input and output redirected, or under script(1) inside the container")
	}
	return unix.Minor(uint64(dev)), hungUp, nil
}

// pty is one pair.
type pty struct {
	index  uint32
	master *kind.Desc
	slave  *kind.Desc // one of them
	hungUp bool
	kept   *contents // of those of saver.seen, once asked
}

func (p *pty) see(d *kind.Desc, hungUp bool) error {
	switch {
	case !isMaster(d):
		p.slave, p.hungUp = d, p.hungUp || hungUp
	case p.master != nil && p.master.ID != d.ID:
		return failure.WithHint(failure.Unsupportedf("two terminals have the number %d: those of several devpts file systems are not carried", p.index),
			"close one of them before the dump")
	default:
		p.master = d
	}
	return nil
}

// any is a description to say it by.
func (p *pty) any() *kind.Desc {
	if p.master != nil {
		return p.master
	}
	return p.slave
}

type saver struct {
	ptys  map[uint32]*pty
	order []*pty
	seen  map[uint32]*pty // by look, what descriptors hold
	asked bool            // contents have been looked for
	own   uint64          // device of the container's /dev/pts; 0: it has none
}

// refuse wants every process's descriptors to be known: both ends are looked for.
func (s *saver) refuse(d *kind.Dump, desc *kind.Desc) error {
	n, hungUp, err := index(desc)
	if err != nil {
		return err
	}
	if err := s.look(d); err != nil {
		return err
	}
	if foreign(desc, s.own) {
		if hungUp {
			return nil
		}
		return outside(d, desc.Link)
	}
	if err := s.checkMaster(d, desc); err != nil {
		return err
	}
	return s.check(d, s.seen[n], desc)
}

// checkMaster refuses the master of another /dev/pts, whose number says nothing
// here. That it is one shows only by the mount that it was opened through.
func (s *saver) checkMaster(d *kind.Dump, desc *kind.Desc) error {
	if !isMaster(desc) || s.own == 0 {
		return nil
	}
	from := d.Home
	if d.MountsOf != nil {
		from = d.MountsOf(desc)
	}
	mounts, err := procfs.Mounts(int(from))
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(mounts, func(m procfs.Mount) bool { return m.ID == desc.Info.MntID }) {
		return failure.WithHint(failure.Unsupportedf("the master of a terminal that was opened outside the container"), "have the program open /dev/ptmx itself, or close it before the dump")
	}
	return nil
}

// own is the device of the container's /dev/pts; 0: it has none.
func own(d *kind.Dump) (uint64, error) {
	m, err := procfs.OnTop(int(d.Home), "devpts", "/dev/pts")
	if m == nil || err != nil {
		return 0, err
	}
	return m.Dev, nil
}

// foreign tells whether d is a slave of another /dev/pts, whose number says
// nothing here.
func foreign(d *kind.Desc, own uint64) bool {
	major := unix.Major(d.Stat.Rdev)
	return own != 0 && major >= slaveMajor && major <= oldMajors && d.Stat.Dev != own
}

// look finds, once, the terminals that descriptors of the container lead to.
func (s *saver) look(d *kind.Dump) (err error) {
	if s.seen != nil {
		return nil
	}
	if s.own, err = own(d); err != nil {
		return err
	}
	seen := map[uint32]*pty{}
	for _, p := range d.Procs {
		for _, fd := range p.Fds {
			if !owns(fd.Desc) || foreign(fd.Desc, s.own) || s.checkMaster(d, fd.Desc) != nil {
				continue // refuse says so where it is that descriptor's turn
			}
			n, hungUp, err := index(fd.Desc)
			if err != nil {
				continue
			}
			if seen[n] == nil {
				seen[n] = &pty{index: n}
			}
			if err := seen[n].see(fd.Desc, hungUp); err != nil {
				return err
			}
		}
	}
	s.seen = seen
	return nil
}

// outside refuses a terminal whose master somebody else has.
func outside(d *kind.Dump, name string) error {
	hints := []string{"start the program with its input and output redirected, or under script(1) inside the container"}
	if d.Adopted {
		hints = []string{"start the program with setsid(1), its input and output redirected",
			"or save the terminal with it: give the pid of the tmux, screen or script(1) that runs it",
			"or close the terminal first: what outlives it (nohup, disown) can be saved"}
	}
	return failure.WithHint(failure.Unsupportedf("the terminal %s is run by a program outside the container", name), hints...)
}

func (s *saver) check(d *kind.Dump, p *pty, desc *kind.Desc) error {
	if p.master == nil {
		if p.hungUp {
			return nil
		}
		return outside(d, desc.Link)
	}
	if p.hungUp {
		return failure.WithHint(failure.Unsupportedf("a slave of terminal /dev/pts/%d was hung up (vhangup) while its master is open", p.index),
			"let the program close it before the dump")
	}
	switch n, err := p.discipline(); {
	case err != nil:
		return err
	case n != 0:
		return failure.WithHint(failure.Unsupportedf("terminal /dev/pts/%d has line discipline %d: only the ordinary one is carried", p.index, n),
			"have the program give it the ordinary one (TIOCSETD, N_TTY) before the dump")
	}
	if _, err := sessionOf(d, p.master); err != nil {
		return err
	}
	if d.Out == nil || desc.ID != p.master.ID || s.keeps(d, p) {
		return nil // what is under way now tells nothing of the time of a dump; and once is enough
	}
	if err := p.untold(d); err != nil {
		return err
	}
	for _, end := range []*kind.Desc{p.master, p.slave} {
		if end == nil {
			continue
		}
		if err := p.unread(d, end); err != nil {
			return err
		}
	}
	return nil
}

// discipline is 0 where both ends have the ordinary one (N_TTY), else what an end
// has. A slave that nobody has open is given that of its attributes when it is
// opened (tty_reopen() of drivers/tty/tty_io.c).
func (p *pty) discipline() (int, error) {
	for _, end := range []*kind.Desc{p.master, p.slave} {
		if end == nil {
			continue
		}
		n, err := unix.IoctlGetInt(int(end.File.Fd()), unix.TIOCGETD)
		if err != nil {
			return 0, fmt.Errorf("read its line discipline (TIOCGETD): %w", err)
		}
		if n != 0 {
			return n, nil
		}
	}
	if p.slave != nil {
		return 0, nil
	}
	attr, err := unix.IoctlGetTermios(int(p.master.File.Fd()), unix.TCGETS)
	if err != nil {
		return 0, fmt.Errorf("read its attributes (TCGETS): %w", err)
	}
	return int(attr.Line), nil
}

// contents is what was found to wait in a terminal; nil: it was not looked for.
func (s *saver) contents(p *pty) *contents {
	if seen := s.seen[p.index]; seen != nil { // one that is gone may have another's number
		return seen.kept
	}
	return nil
}

// keeps tells whether what waits in a terminal is saved, or will be.
func (s *saver) keeps(d *kind.Dump, p *pty) bool {
	if s.contents(p) != nil {
		return true
	}
	if s.asked || !slices.ContainsFunc(d.Holders(p.master), func(q *kind.Proc) bool { return !inBackground(q, p.index) }) {
		return false
	}
	b, err := p.before()
	return err == nil && b != nil
}

// untold refuses a change of state that the master's holder, in packet mode,
// has not been told of (TIOCPKT(2const)): to look at it takes it away.
func (p *pty) untold(d *kind.Dump) error {
	events, err := eventsOf(p.master.File)
	if events&unix.POLLPRI == 0 || err != nil {
		return err
	}
	return &kind.Busy{
		Err: failure.WithHint(failure.Unsupportedf("a change of state waits to be read in terminal /dev/pts/%d (packet mode)", p.index),
			"dump again: it passes as soon as the program at its other end reads it"),
		Holders: d.Holders(p.master),
		Done: func() bool {
			events, err := eventsOf(p.master.File)
			return err != nil || events&unix.POLLPRI == 0
		},
	}
}

// unread refuses data that a reader of end has not taken. Who holds the master
// is there to read: it only has to be let.
func (p *pty) unread(d *kind.Dump, end *kind.Desc) error {
	n, err := underWay(end.File)
	if n == 0 || err != nil {
		return err
	}
	err = failure.WithHint(failure.Unsupportedf("%d bytes are under way in terminal /dev/pts/%d", n, p.index),
		"dump again: they pass as soon as the program at its other end reads them")
	if end != p.master {
		return err
	}
	return &kind.Busy{Err: err, Holders: d.Holders(end), Done: func() bool {
		n, err := underWay(end.File)
		return err != nil || n == 0
	}}
}

// underWay is how many bytes can be read from an end. poll(2) brings those
// along that a worker of the kernel has yet to hand over (n_tty_poll()), which
// FIONREAD alone does not count.
func underWay(end *os.File) (int, error) {
	if _, err := kernel.Poll(end.Fd(), unix.POLLIN); err != nil {
		return 0, fmt.Errorf("poll it: %w", err)
	}
	n, err := unix.IoctlGetInt(int(end.Fd()), unix.TIOCINQ)
	if err != nil {
		return 0, fmt.Errorf("ask what is under way in it (FIONREAD): %w", err)
	}
	return n, nil
}

func (s *saver) dump(d *kind.Dump, desc *kind.Desc) (*fdinfo.FileEntry, error) {
	n, hungUp, err := index(desc)
	if err != nil {
		return nil, err
	}
	if foreign(desc, s.own) {
		// Nothing is left of it but its number; one of the container's own
		// terminals may have the same.
		for s.seen[n] != nil {
			n++
		}
	}
	if err := s.checkMaster(d, desc); err != nil { // one in flight
		return nil, err
	}
	p := s.ptys[n]
	if p == nil {
		p = &pty{index: n}
		s.ptys[n] = p
		s.order = append(s.order, p)
	}
	if desc, err = desc.Keep(); err != nil {
		return nil, err
	}
	if err := p.see(desc, hungUp); err != nil {
		return nil, err
	}
	owner, err := d.Owner(desc)
	if err != nil {
		return nil, err
	}
	name, err := addName(d, desc)
	if err != nil {
		return nil, err
	}
	return &fdinfo.FileEntry{Tty: &ttyimg.TtyFileEntry{
		Id: proto.Uint32(desc.ID), TtyInfoId: proto.Uint32(infoID(n, isMaster(desc))),
		Flags: proto.Uint32(desc.StatusFlags()), Fown: owner, RegfId: proto.Uint32(name),
	}}, nil
}

// infoID numbers the two ends of a pair.
func infoID(index uint32, master bool) uint32 {
	if master {
		return index<<1 | 1
	}
	return index << 1
}

// addName writes the entry of a file that holds the path; CRIU opens by it.
func addName(d *kind.Dump, desc *kind.Desc) (uint32, error) {
	id := d.NewID("file")
	owner, err := d.Owner(desc)
	if err != nil {
		return 0, err
	}
	return id, d.Out.Add(image.Files, "", &fdinfo.FileEntry{
		Type: fdinfo.FdTypes_REG.Enum(), Id: proto.Uint32(id), Reg: &regfile.RegFileEntry{
			Id: proto.Uint32(id), Flags: proto.Uint32(desc.StatusFlags()), Pos: proto.Uint64(0), Fown: owner,
			Name: proto.String(desc.Link), MntId: proto.Int32(-1), Mode: proto.Uint32(desc.Stat.Mode),
		},
	})
}

func (s *saver) finish(d *kind.Dump) error {
	s.asked = true
	for _, p := range s.order {
		err := s.check(d, p, p.any())
		if err == nil {
			err = p.save(d, s.contents(p))
		}
		if err != nil {
			return kind.At(p.any(), err)
		}
	}
	for _, p := range s.order {
		p.master.Drop()
		p.slave.Drop()
	}
	return nil
}
