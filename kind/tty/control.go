package tty

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"ckpt/kind"
	"ckpt/pidns"
)

// Control is which terminal controls the session of a process.
func Control() kind.Process {
	var keep []*os.File // until the calls have run
	var pairs map[uint32]*pair
	var ptys map[uint32]*pty
	return kind.Process{
		Name: "controlling terminal",
		Observe: func(d *kind.Dump, p *kind.Proc) (err error) {
			if ptys == nil {
				if ptys, err = seen(d); err != nil {
					return err
				}
			}
			return observe(ptys, p)
		},
		Restore: func(r *kind.Restore, t *kind.Target) (err error) {
			if pairs == nil {
				if pairs, err = read(r); err != nil {
					return err
				}
			}
			for _, p := range pairs {
				if p.slave == nil || pidns.VPID(p.slave.GetSid()) != t.VPID || t.Zombie {
					continue
				}
				f, err := slaveOf(r, p)
				if err != nil {
					return err
				}
				keep = append(keep, f)
				take(t, f, p)
			}
			return nil
		},
	}
}

// observe refuses a process whose terminal does not come with the container.
func observe(ptys map[uint32]*pty, p *kind.Proc) error {
	if p.Stat == nil || p.Stat.TTYNr == 0 {
		return nil
	}
	major, minor := p.Stat.TTYMajorMinor()
	if major >= slaveMajor && major <= oldMajors {
		if t := ptys[minor]; t != nil && t.master != nil {
			return nil
		}
		return outside(fmt.Sprintf("/dev/pts/%d", minor))
	}
	return outside(fmt.Sprintf("%d:%d", major, minor))
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

// take adds the calls by which the leader of a session takes its terminal
// (TIOCSCTTY) and puts a group into the foreground.
func take(t *kind.Target, f *os.File, p *pair) {
	name := fmt.Sprintf("/dev/pts/%d", p.index())
	sc := t.Main // while the process may still take files from ckpt: its own credentials may not
	fd := t.Fetch(sc, f)
	sc.Note(sc.Must(unix.SYS_IOCTL, fd, unix.TIOCSCTTY, 0), "take "+name+" as the controlling terminal")
	if g := p.slave.GetPgrp(); g != 0 {
		arg := sc.Data(binary.NativeEndian.AppendUint32(nil, g))
		sc.Note(sc.Must(unix.SYS_IOCTL, fd, unix.TIOCSPGRP, arg), fmt.Sprintf("put group %d into the foreground of %s", g, name))
	}
	t.Drop(sc, fd)
}
