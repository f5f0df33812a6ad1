package restore

import (
	"fmt"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/pidns"
	"ckpt/tracee"
)

// ended are the processes of the image that have ended and that objects still
// refer to (pidns.Holds). What they did is done again by a child of vpid 1 that
// has their number for a while. A zombie or the dead leader of a group or
// session does it itself, before it ends (tree.Options.Linger).
type ended struct {
	byID     map[pidns.VPID]*image.Held
	byNumber map[uint32]*image.Held
	alive    map[uint32]pidns.VPID // children of vpid 1 that are there, by number of entry
	staying  map[pidns.VPID]bool
	linger   bool
	over     bool // they have ended again
}

// loadEnded reads them. An image may say anything.
func (s *session) loadEnded() error {
	e := ended{byID: map[pidns.VPID]*image.Held{}, byNumber: map[uint32]*image.Held{}, alive: map[uint32]pidns.VPID{}, staying: map[pidns.VPID]bool{}}
	for _, h := range s.r.Manifest.GetHeld() {
		id := pidns.VPID(h.GetId())
		if e.byNumber[h.GetNumber()] != nil || id != 0 && e.byID[id] != nil {
			return failure.Damagedf("an ended process (number %d, pid %d) stands there twice", h.GetNumber(), id)
		}
		e.byNumber[h.GetNumber()] = h
		if id == 0 {
			continue
		}
		e.byID[id] = h
		if w := s.ids[id]; w != nil {
			if w.GetTgid() != 0 && !w.GetZombie() || id == pidns.Init {
				return failure.Damagedf("pid %d has ended, and is there", id)
			}
			e.linger = true
		}
	}
	s.held = e
	for _, h := range s.r.Manifest.GetHeld() {
		if err := s.checkThread(h); err != nil {
			return err
		}
	}
	return nil
}

// checkThread: the process of a thread that has ended is there, or has ended, too.
func (s *session) checkThread(h *image.Held) error {
	of := pidns.VPID(h.GetTgid())
	if of == 0 {
		return nil
	}
	t, dead := s.target(of), s.held.byID[of]
	if h.GetId() == 0 || t == nil && dead == nil || t != nil && (t.Zombie || len(t.Chain) > 1) || dead.GetTgid() != 0 {
		return failure.Damagedf("thread %d, which has ended, is of process %d, which is not there", h.GetId(), of)
	}
	return nil
}

// acts is Restore.Acts.
func (s *session) acts(v pidns.VPID) bool {
	if v == pidns.Init {
		return true
	}
	if t := s.target(v); t != nil && !t.Zombie {
		return true
	}
	if s.held.byID[v] == nil {
		return false
	}
	return s.ids[v] == nil || s.stubs[v] != nil && !s.ended[v]
}

// endedProcess is Restore.Ended. Called on the inner thread.
func (s *session) endedProcess(number uint32) (pidns.VPID, error) {
	type answer struct {
		v   pidns.VPID
		err error
	}
	done := make(chan answer, 1)
	s.ask <- func() {
		v, err := s.revive(number)
		done <- answer{v, err}
	}
	a := <-done
	return a.v, a.err
}

// revive makes an ended process be there, and gives its number.
func (s *session) revive(number uint32) (pidns.VPID, error) {
	h := s.held.byNumber[number]
	if h == nil {
		return 0, failure.Damagedf("ended process %d is not in the image", number)
	}
	id := pidns.VPID(h.GetId())
	if s.ids[id] != nil {
		if !s.acts(id) {
			return 0, fmt.Errorf("pid %d: %w", id, unix.ESRCH)
		}
		return id, nil
	}
	if v, ok := s.held.alive[number]; ok {
		return v, nil
	}
	if s.held.over {
		return 0, fmt.Errorf("pid %d has ended, and its time is over: %w", id, unix.ESRCH)
	}
	if id == 0 {
		id = s.unused()
	}
	by, flags := s.root.Thread, uint64(0)
	if of := pidns.VPID(h.GetTgid()); of != 0 {
		if p := s.held.byID[of]; p != nil {
			if _, err := s.revive(p.GetNumber()); err != nil {
				return 0, err
			}
		}
		by, flags = s.stubs[of], threadFlags
	}
	numbers, err := s.giveNumbers(max(pidns.VPID(h.GetTgid()), pidns.Init), nil, pidns.Chain{id})
	if err != nil {
		return 0, err
	}
	stub, err := tracee.ForkStub(by, s.root.Site, tracee.ForkOptions{SetTID: numbers, Flags: flags})
	if err != nil {
		return 0, err
	}
	if len(numbers) == 0 {
		if err := s.lastPID(); err != nil { // which has given the number
			return 0, err
		}
	}
	s.stubs[id], s.held.alive[number] = stub, id
	return id, nil
}

// unused is a number that nobody in the image has.
func (s *session) unused() pidns.VPID {
	id := pidns.VPID(s.pidMax - 1)
	for s.ids[id] != nil || s.held.byID[id] != nil || s.stubs[id] != nil {
		id--
	}
	return id
}

// stay is Restore.Stay.
func (s *session) stay(v pidns.VPID) bool {
	h := s.held.byID[v]
	if h == nil || s.ids[v] != nil || h.GetTgid() != 0 {
		return false
	}
	s.held.staying[v] = true
	return true
}

// endMost ends all of them but those that stay, and those that lingered.
func (s *session) endMost() error {
	if err := s.end(func(v pidns.VPID, h *image.Held) bool { return h.GetTgid() != 0 }); err != nil {
		return err
	}
	if err := s.end(func(v pidns.VPID, _ *image.Held) bool { return !s.held.staying[v] }); err != nil {
		return err
	}
	s.held.over = true
	return s.takeAll(s.endings)
}

// endRest ends those that stayed.
func (s *session) endRest() error {
	return s.end(func(pidns.VPID, *image.Held) bool { return true })
}

// end ends those that which picks.
func (s *session) end(which func(pidns.VPID, *image.Held) bool) error {
	for number, v := range s.held.alive {
		h := s.held.byNumber[number]
		if !which(v, h) {
			continue
		}
		var err error
		if h.GetTgid() != 0 {
			err = tracee.ExitThread(s.stubs[v], s.root.Site)
		} else if err = tracee.ExitStub(s.stubs[v], s.root.Site, unix.WaitStatus(h.GetStatus())); err == nil {
			err = s.reap(v)
		}
		if err != nil {
			return &failure.Error{Doing: "restore", VPID: int(v), What: "which has ended", Err: err}
		}
		delete(s.held.alive, number)
		delete(s.stubs, v)
	}
	return nil
}

// reap has vpid 1 wait for a child, of whose end no signal tells it. It may
// have been rebuilt, where it is the command itself.
func (s *session) reap(v pidns.VPID) error {
	site := s.root.Site
	if t := s.target(pidns.Init); t != nil && s.sites[t.IDs.GetVmId()].Size != 0 {
		site = s.siteOf(t)
	}
	_, err := s.root.Thread.Syscall(site, unix.SYS_WAIT4, uint64(v), 0, unix.WNOHANG|unix.WALL, 0)
	return err
}
