package tty

import (
	"errors"
	"fmt"

	ttyimg "github.com/checkpoint-restore/go-criu/v7/crit/images/tty"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/pidns"
)

// save writes the pair: an entry each end, and what has no field with the
// description of the master.
func (p *pty) save(d *kind.Dump, c *contents) error {
	if p.master == nil {
		return d.Out.Add(image.TTYInfo, "", p.entry(false))
	}
	node, err := p.node(d)
	if err != nil {
		return err
	}
	x := &image.FileExtra{Id: p.master.ID, Inode: node}
	if x.HungUp, err = hungUp(p.master); err != nil {
		return err
	}
	if c != nil {
		x.InputEnds, x.Stopped = c.ends, c.stop
		if err := c.save(d, p.index); err != nil {
			return err
		}
	}
	if err := d.Out.Add(image.FilesExtra, "", x); err != nil {
		return err
	}
	for _, master := range []bool{true, false} {
		e := p.entry(master)
		e.Uid, e.Gid = proto.Uint32(node.GetUid()), proto.Uint32(node.GetGid())
		if err := p.describe(d, e, master); err != nil {
			return err
		}
		if err := d.Out.Add(image.TTYInfo, "", e); err != nil {
			return err
		}
	}
	return nil
}

// save writes what is to be read, an entry each end.
func (c *contents) save(d *kind.Dump, index uint32) error {
	add := func(master bool, data []byte) error {
		if len(data) == 0 {
			return nil
		}
		return d.Out.Add(image.TTYData, "", &ttyimg.TtyDataEntry{TtyId: proto.Uint32(infoID(index, master)), Data: data})
	}
	return errors.Join(add(false, c.in), add(true, c.out))
}

func (p *pty) entry(master bool) *ttyimg.TtyInfoEntry {
	rdev := uint32(unix.Mkdev(slaveMajor, p.index))
	if master {
		rdev = uint32(unix.Mkdev(auxMajor, 2))
	}
	return &ttyimg.TtyInfoEntry{
		Id: proto.Uint32(infoID(p.index, master)), Type: ttyimg.TtyType_PTY.Enum(), Locked: proto.Bool(false), Exclusive: proto.Bool(false),
		PacketMode: proto.Bool(false), Sid: proto.Uint32(0), Pgrp: proto.Uint32(0), Rdev: proto.Uint32(rdev),
		Pty: &ttyimg.TtyPtyEntry{Index: proto.Uint32(p.index)},
	}
}

// hungUp: a slave was open, and none is any more. The terminal behaves
// another way before the first is opened.
func hungUp(d *kind.Desc) (bool, error) {
	is, err := kernel.Poll(d.File.Fd(), 0)
	if err != nil {
		return false, fmt.Errorf("poll: %w", err)
	}
	return is&unix.POLLHUP != 0, nil
}

// node is owner and permissions of /dev/pts/N.
func (p *pty) node(d *kind.Dump) (*image.Inode, error) {
	var st unix.Stat_t
	path := fmt.Sprintf("/proc/%d/root/dev/pts/%d", d.Home, p.index)
	if err := unix.Stat(path, &st); err != nil {
		return nil, fmt.Errorf("stat /dev/pts/%d: %w", p.index, err)
	}
	if st.Rdev != unix.Mkdev(slaveMajor, p.index) || p.slave != nil && p.slave.Stat.Rdev == st.Rdev && p.slave.Stat.Dev != st.Dev {
		return nil, failure.Unsupportedf("/dev/pts/%d of the container is another terminal", p.index)
	}
	return d.Inode(&st)
}

// describe reads what the master's ioctls tell; most of them are about the
// slave whichever end is asked (tty_io.c, tty_pair_get_tty).
func (p *pty) describe(d *kind.Dump, e *ttyimg.TtyInfoEntry, master bool) error {
	fd := int(p.master.File.Fd())
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS2)
	if err != nil {
		return fmt.Errorf("read its attributes (TCGETS2): %w", err)
	}
	e.Termios = termiosEntry(t)
	var locked unix.Termios // the kernel fills only the part without speeds
	if l, err := unix.IoctlGetTermios(fd, unix.TIOCGLCKTRMIOS); err != nil {
		return fmt.Errorf("read which attributes are locked (TIOCGLCKTRMIOS): %w", err)
	} else if *l != locked {
		e.TermiosLocked = termiosEntry(l)
	}
	w, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
	if err != nil {
		return fmt.Errorf("read its window size (TIOCGWINSZ): %w", err)
	}
	e.Winsize = &ttyimg.WinsizeEntry{WsRow: proto.Uint32(uint32(w.Row)), WsCol: proto.Uint32(uint32(w.Col)),
		WsXpixel: proto.Uint32(uint32(w.Xpixel)), WsYpixel: proto.Uint32(uint32(w.Ypixel))}
	s, err := sessionOf(d, p.master)
	if err != nil {
		return err
	}
	e.Sid, e.Pgrp = proto.Uint32(uint32(s.sid)), proto.Uint32(uint32(s.pgrp))
	return p.modes(e, master)
}

// modes reads what each end has of its own.
func (p *pty) modes(e *ttyimg.TtyInfoEntry, master bool) error {
	end := p.slave
	if master {
		end = p.master
	}
	flag := func(d *kind.Desc, req uint, what string) (*bool, error) {
		if d == nil {
			return proto.Bool(false), nil
		}
		v, err := unix.IoctlGetInt(int(d.File.Fd()), req)
		if err != nil {
			return nil, fmt.Errorf("read its %s: %w", what, err)
		}
		return proto.Bool(v != 0), nil
	}
	var err error
	if e.Exclusive, err = flag(end, unix.TIOCGEXCL, "exclusive mode (TIOCGEXCL)"); err != nil || !master {
		return err
	}
	if e.PacketMode, err = flag(end, unix.TIOCGPKT, "packet mode (TIOCGPKT)"); err != nil {
		return err
	}
	e.Locked, err = flag(end, unix.TIOCGPTLCK, "lock (TIOCGPTLCK)")
	return err
}

func termiosEntry(t *unix.Termios) *ttyimg.TermiosEntry {
	e := &ttyimg.TermiosEntry{CIflag: proto.Uint32(t.Iflag), COflag: proto.Uint32(t.Oflag), CCflag: proto.Uint32(t.Cflag),
		CLflag: proto.Uint32(t.Lflag), CLine: proto.Uint32(uint32(t.Line)), CIspeed: proto.Uint32(t.Ispeed), COspeed: proto.Uint32(t.Ospeed)}
	for _, c := range t.Cc {
		e.CCc = append(e.CCc, uint32(c))
	}
	return e
}

// session is what a terminal controls.
type session struct{ sid, pgrp pidns.VPID }

// sessionOf reads it from the master, which may ask although it does not
// control its caller (tiocgsid, tiocgpgrp in tty_jobctrl.c). A foreground
// group that has no process any more is given as 0.
func sessionOf(d *kind.Dump, master *kind.Desc) (session, error) {
	sid, err := unix.IoctlGetInt(int(master.File.Fd()), unix.TIOCGSID)
	if errors.Is(err, unix.ENOTTY) {
		return session{}, nil
	}
	if err != nil {
		return session{}, fmt.Errorf("ask for its session (TIOCGSID): %w", err)
	}
	pgrp, err := unix.IoctlGetInt(int(master.File.Fd()), unix.TIOCGPGRP)
	if err != nil {
		return session{}, fmt.Errorf("ask for its foreground group (TIOCGPGRP): %w", err)
	}
	var s session
	for _, p := range d.Procs { // the leader of a group may have ended: ask its members
		if p.Stat == nil {
			continue
		}
		if p.Stat.Session == sid {
			s.sid = p.SID
		}
		if p.Stat.PGrp == pgrp {
			s.pgrp = p.PGID
		}
	}
	if s.sid == 0 {
		return s, failure.Unsupportedf("its terminal controls a session outside the container")
	}
	return s, nil
}
