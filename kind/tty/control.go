package tty

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/tracee"
)

// control is which terminal controls the session of a process. It belongs to
// each process of the session, inherited by fork(2): TIOCSCTTY gives it to the
// leader alone (tty_jobctrl.c, proc_set_tty). So the leader takes it before
// any other process of its session is born.
type control struct {
	saver    *saver
	restorer *restorer
	keep     []*os.File // until the calls have run
}

func (c *control) observe(d *kind.Dump, p *kind.Proc) error {
	if err := c.saver.look(d); err != nil {
		return err
	}
	if err := observe(d, c.saver.seen, p); err != nil {
		return err
	}
	if p.Extra != nil && p.Stat != nil && p.Stat.TTYNr == 0 {
		p.Extra.NoTerminal = sessionHasOne(d, p)
	}
	return nil
}

func sessionHasOne(d *kind.Dump, p *kind.Proc) bool {
	for _, q := range d.Procs {
		if q.VPID == p.SID && q != p {
			return q.Stat != nil && q.Stat.TTYNr != 0
		}
	}
	return false
}

// lead lets the leader of a session take its terminal.
func (c *control) lead(r *kind.Restore, t *kind.Target, s *tracee.Script, fetch func(*os.File) tracee.Step) error {
	p, err := c.of(r, t.VPID)
	if p == nil || err != nil {
		return err
	}
	if err := p.create(r); err != nil {
		return err
	}
	f := p.peer
	if f == nil { // no process has it open
		if f, err = openPeer(p.ptmx); err != nil {
			return err
		}
		c.keep = append(c.keep, f)
	}
	fd := fetch(f)
	step := s.Must(unix.SYS_IOCTL, 0, unix.TIOCSCTTY, 0)
	s.Feed(fd, step, 0)
	s.Note(step, "take "+p.name()+" as the controlling terminal")
	return nil
}

// restore puts a group into the foreground, or lets a process give up the
// terminal that it has inherited.
func (c *control) restore(r *kind.Restore, t *kind.Target) error {
	leads := pidns.VPID(t.Entry.GetSid()) == t.VPID
	if !leads && !t.Extra.GetNoTerminal() {
		return nil
	}
	p, err := c.of(r, pidns.VPID(t.Entry.GetSid()))
	if p == nil || err != nil {
		return err
	}
	group, ok := r.Known(t, pidns.VPID(p.slave.GetPgrp()))
	if leads && !ok { // also a group that its leader does not see
		return nil
	}
	f, err := slaveOf(r, p)
	if err != nil {
		return err
	}
	c.keep = append(c.keep, f)
	sc := t.Main // while the process may still take files from ckpt: its own credentials may not
	fd := t.Fetch(sc, f)
	if leads {
		arg := sc.Data(binary.NativeEndian.AppendUint32(nil, uint32(group)))
		sc.Note(sc.Must(unix.SYS_IOCTL, fd, unix.TIOCSPGRP, arg), fmt.Sprintf("put group %d into the foreground of %s", group, p.name()))
	} else {
		sc.Note(sc.Must(unix.SYS_IOCTL, fd, unix.TIOCNOTTY, 0), "give up "+p.name())
	}
	t.Drop(sc, fd)
	return nil
}

// of is the terminal of a session; nil: it has none.
func (c *control) of(r *kind.Restore, sid pidns.VPID) (*pair, error) {
	if err := c.restorer.load(r); err != nil {
		return nil, err
	}
	for _, p := range c.restorer.pairs {
		if p.slave != nil && sid != 0 && pidns.VPID(p.slave.GetSid()) == sid {
			return p, nil
		}
	}
	return nil, nil
}

// observe refuses a process whose terminal does not come with the container.
func observe(d *kind.Dump, ptys map[uint32]*pty, p *kind.Proc) error {
	if p.Stat == nil || p.Stat.TTYNr == 0 {
		return nil
	}
	major, minor := p.Stat.TTYMajorMinor()
	if major >= slaveMajor && major <= oldMajors {
		if t := ptys[minor]; t != nil && t.master != nil {
			return nil
		}
		return outside(d, fmt.Sprintf("/dev/pts/%d", minor))
	}
	return outside(d, fmt.Sprintf("%d:%d", major, minor))
}

// slaveOf is some description of the slave. A session keeps its terminal
// also when no process has it open.
func slaveOf(r *kind.Restore, p *pair) (*os.File, error) {
	for id, e := range r.Entries {
		if e.GetTty() != nil && e.GetTty().GetTtyInfoId() == p.slave.GetId() {
			return r.File(id)
		}
	}
	ptmx, err := r.File(p.masterID)
	if err != nil {
		return nil, err
	}
	return openPeer(ptmx)
}
