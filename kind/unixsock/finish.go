package unixsock

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/pidns"
)

// finish saves the queues. Sockets found in queues are added to s.all on the
// way (AddFile calls dump), and have queues themselves. Only then everything
// that could be the other end of something is known.
func (s *saver) finish(d *kind.Dump) error {
	defer s.close()
	for n := 0; n < len(s.all); n++ {
		if err := s.saveQueue(d, s.all[n]); err != nil {
			return inPlace(s.all[n], err)
		}
	}
	var refused []error
	for _, v := range s.all {
		if err := errors.Join(s.check(d, v.desc, v.info), s.checkSent(d, v)); err != nil {
			refused = append(refused, inPlace(v, err))
		}
	}
	if err := errors.Join(refused...); err != nil {
		return err
	}
	for _, v := range s.all {
		if err := s.saveOutside(d, v); err != nil {
			return err
		}
		for _, p := range v.packets {
			if err := d.Out.Add(image.SkQueues, "", p.entry(v.desc.ID), p.data); err != nil {
				return err
			}
		}
	}
	return nil
}

// inPlace says which socket it was, as the driver does for Dump.
func inPlace(v *saved, err error) error {
	if v.desc.FD >= 0 {
		return kind.At(v.desc, err)
	}
	e := &failure.Error{What: "a socket in flight", Err: err}
	if p := v.desc.Proc; p != nil {
		e.VPID, e.Comm = int(p.VPID), p.Comm
	}
	return e
}

func (s *saver) close() {
	for _, v := range s.all {
		v.desc.Drop()
	}
	s.pool.close()
}

func (s *saver) saveQueue(d *kind.Dump, v *saved) error {
	if v.info.state == stateListen {
		return nil
	}
	msgs, err := peek(int(v.desc.File.Fd()), v.info)
	ask, off := &asker{d: d, sock: int(v.desc.File.Fd())}, 0
	for _, m := range msgs {
		if err != nil {
			closeAll(m.fds)
			continue
		}
		var p *packet
		if p, err = s.packet(d, v, m); err == nil {
			v.packets = append(v.packets, p)
			p.cred, err = ask.sender(m.cred, off, len(m.data))
		}
		if err == nil && p.cred != nil && !d.Privileged {
			err = v.sendable(d, p.cred)
		}
		off += len(m.data)
	}
	return errors.Join(err, ask.close())
}

// sendable refuses a message that only root may send again: where its sender
// cannot, and ckpt does it in the name of another.
func (v *saved) sendable(d *kind.Dump, c *image.Ucred) error {
	to := &sock{e: v.entry}
	if p := d.Running(pidns.VPID(c.GetPid())); p != nil && p.IDs.GetUserNsId() > image.NamespaceID {
		return failure.WithHint(failure.Unsupportedf("unix socket: a message with the credentials of pid %d, which has a user namespace of its own, waits to be read, and only root may send it again", c.GetPid()),
			"try again once the program has read it, or run ckpt as root")
	}
	if v.info.typ != unix.SOCK_DGRAM || !to.named() || to.reach() != nil {
		return nil
	}
	return failure.WithHint(failure.Unsupportedf("unix socket: a message with the credentials of pid %d waits in one whose name leads nowhere any more, and only root may send it again", c.GetPid()),
		"try again once the program has read it, or run ckpt as root")
}

// packet makes the image's message of one that was looked at, whose
// descriptors it takes over.
func (s *saver) packet(d *kind.Dump, v *saved, m peeked) (*packet, error) {
	p := &packet{data: m.data}
	if v.info.typ == unix.SOCK_DGRAM { // otherwise it can only be the peer's
		p.name = m.name
	}
	var err error
	for n, fd := range m.fds {
		var id uint32
		if id, err = s.pool.id(d, v.desc.Proc, os.NewFile(uintptr(fd), "in flight")); err != nil {
			closeAll(m.fds[n+1:])
			return nil, err
		}
		p.rights = append(p.rights, id)
	}
	return p, nil
}

// flight are the descriptors found in queues.
type flight struct{ found []inFlight }

type inFlight struct {
	file *os.File
	stat unix.Stat_t
	id   uint32
}

func (p *flight) close() {
	for _, f := range p.found {
		f.file.Close()
	}
	p.found = nil
}

// id is the entry of f in files.img: that of a descriptor if a process has
// it too, else one of its own. It takes f over.
func (p *flight) id(d *kind.Dump, proc *kind.Proc, f *os.File) (uint32, error) {
	in := inFlight{file: f}
	if err := unix.Fstat(int(f.Fd()), &in.stat); err != nil {
		f.Close()
		return 0, fmt.Errorf("stat a descriptor in flight: %w", err)
	}
	err := p.identify(d, proc, &in)
	p.found = append(p.found, in)
	return in.id, err
}

func (p *flight) identify(d *kind.Dump, proc *kind.Proc, in *inFlight) error {
	for _, o := range d.Procs {
		for _, c := range o.Fds {
			if ok, err := in.same(c.Desc.File, &c.Desc.Stat); err != nil || ok {
				in.id = c.Desc.ID
				return err
			}
		}
	}
	for _, o := range p.found {
		if ok, err := in.same(o.file, &o.stat); err != nil || ok {
			in.id = o.id
			return err
		}
	}
	link, err := os.Readlink(fmt.Sprintf("/proc/thread-self/fd/%d", in.file.Fd()))
	if err != nil {
		return fmt.Errorf("read the link of a descriptor in flight: %w", err)
	}
	if in.id, err = d.AddFile(proc, in.file, link); err != nil {
		return fmt.Errorf("a descriptor in flight (%s): %w", link, err)
	}
	for _, o := range p.found {
		if o.id == in.id {
			return failure.WithHint(failure.Unsupportedf("unix socket: two descriptors in flight (%s) that cannot be told apart", link), "try again once the program has received them")
		}
	}
	return nil
}

// same tells whether both are one open file description. They are ckpt's own
// descriptors.
func (in *inFlight) same(f *os.File, st *unix.Stat_t) (bool, error) {
	if st.Ino != in.stat.Ino || st.Dev != in.stat.Dev {
		return false, nil
	}
	n, err := kernel.Kcmp(os.Getpid(), os.Getpid(), kernel.KcmpFile, int(in.file.Fd()), int(f.Fd()))
	if err != nil {
		return false, fmt.Errorf("compare descriptors (kcmp): %w", err)
	}
	return n == 0, nil
}
