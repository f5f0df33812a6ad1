package tracee

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/procfs"
)

// Injection is code and a data area inside a stopped process that is not
// ckpt's own. At any instant, whatever is in the process by then, the death of
// ckpt lets each of its threads find home: to its own registers and signal
// mask, the area unmapped.
//
// The thread it was made with stays inside from Inject to Remove; its Regs are
// not its own meanwhile. Another thread goes inside only for the time of a Run.
type Injection struct {
	lead  *Thread
	mem   *os.File // /proc/PID/mem, for the cave is not writable to the process
	busy  uint64   // signals that the program has handlers for, or that were pending
	cave  cave
	site  Site
	home  home // of lead
	owner int  // the frame that unmaps the area; -1: there is none
}

// home is what a thread inside has to get back.
type home struct {
	regs Regs
	mask uint64
}

// Frames: lead's, and that of the one other thread that may be inside.
const (
	leadFrame  = 0
	guestFrame = 1
	noFrame    = -1
)

// Inject makes room in t's process: an area of areaSize bytes (rounded up to
// pages). maps are the mappings of the process. Preconditions: all its threads
// are stopped and traced by this OS thread, and none is GoingHome.
func Inject(t *Thread, maps []procfs.Map, areaSize uint64) (*Injection, error) {
	c, err := findCave(t.TID, maps, blockSize())
	if err != nil {
		return nil, err
	}
	areaSize = (areaSize + pageSize - 1) &^ (pageSize - 1)
	area, err := findGap(maps, areaSize)
	if err != nil {
		return nil, err
	}
	in := &Injection{lead: t, cave: c, site: siteAt(c.addr), owner: noFrame}
	in.site.Base, in.site.Size = area, areaSize
	if err := in.look(); err != nil {
		return nil, err
	}
	if err := in.write(c.addr, encodeBlock()); err != nil {
		return nil, errors.Join(err, in.mem.Close())
	}
	if err := in.enter(t, leadFrame, &in.home); err != nil {
		return nil, errors.Join(err, in.clear())
	}
	if err := in.mapArea(); err != nil {
		return nil, errors.Join(err, in.Remove())
	}
	return in, nil
}

// Site is where the code and the area are: the same for all threads.
func (in *Injection) Site() Site { return in.site }

// look reads what is needed of the process for all its threads.
func (in *Injection) look() error {
	st, err := statusOf(in.lead.TID)
	if err != nil {
		return err
	}
	in.lead.setIDs(st)
	in.busy = st.SigCgt | st.SigPnd | st.ShdPnd
	in.mem, err = os.OpenFile(fmt.Sprintf("/proc/%d/mem", in.lead.TID), os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open its memory: %w", err)
	}
	return nil
}

// write writes into the cave, in one go where b lies within a page.
func (in *Injection) write(addr uint64, b []byte) error {
	if beforeRequest != nil {
		beforeRequest("write memory")
	}
	if _, err := in.mem.WriteAt(b, int64(addr)); err == nil {
		return nil
	}
	if err := writeThrough(in.lead.TID, addr, b); err != nil {
		return fmt.Errorf("write code: %w", err)
	}
	return nil
}

// mapArea makes the area. The frame says first that it has to go, so that it
// never stays behind; the way home knows of EEXIST. It is shared memory, which a
// limit of RLIMIT_DATA does not count.
func (in *Injection) mapArea() error {
	if err := in.own(leadFrame); err != nil {
		return err
	}
	at, err := in.lead.Syscall(in.site, unix.SYS_MMAP, in.site.Base, in.site.Size,
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS|unix.MAP_FIXED_NOREPLACE, ^uint64(0), 0)
	if err == nil && at != in.site.Base {
		err = unix.EEXIST // MAP_FIXED_NOREPLACE is unknown before 4.17
	}
	if errors.Is(err, unix.EAGAIN) {
		err = failure.WithHint(failure.Unsupportedf("all it maps is locked (mlockall), and it may lock no more (RLIMIT_MEMLOCK)"),
			fmt.Sprintf("raise the limit while it runs: prlimit --pid %d --memlock=BYTES:", in.lead.PID))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("map work area of %d bytes at %#x: %w", in.site.Size, in.site.Base, err), in.own(noFrame))
	}
	return nil
}

// own makes the thread of one frame the one that unmaps the area on its way
// home: two words at once, for the kernel copies within a page in one go.
func (in *Injection) own(frame int) error {
	var b [8 * frames]byte
	if frame != noFrame {
		binary.LittleEndian.PutUint64(b[8*frame:], in.site.Size)
	}
	if err := in.write(in.site.sizeAt(0), b[:]); err != nil {
		return err
	}
	in.owner = frame
	return nil
}

// enter sends t home, as it were, with its frame filled, and leaves it
// standing there. Registers go first: from there on a blocked mask heals.
func (in *Injection) enter(t *Thread, frame int, h *home) (err error) {
	if h.regs, err = t.Regs(); err != nil {
		return err
	}
	if err := injectable(h.regs); err != nil {
		return err
	}
	if on, err := userDispatch(t.TID); err == nil && on {
		return failure.WithHint(failure.Unsupportedf("its system calls are dispatched to itself (PR_SET_SYSCALL_USER_DISPATCH)"),
			"dump when the foreign program that it runs (Wine) has ended")
	}
	if _, err := t.LeaveCriticalSection(&h.regs); err != nil {
		return err
	}
	if h.mask, err = t.SigMask(); err != nil {
		return err
	}
	t.chooseDone(in.busy, h.mask)
	at := in.site.frameAt(frame)
	if err := in.write(at, encodeFrame(h.regs, h.mask, in.site.Base, in.site.sizeAt(frame))); err != nil {
		return err
	}
	if err := t.SetRegs(homeRegs(h.regs, in.site, at)); err != nil {
		return err
	}
	return t.SetSigMask(^bit(t.done))
}

// leave gives t its own state back. t stands in a signal-delivery-stop or an
// event stop, from which the kernel restarts an interrupted call.
func (in *Injection) leave(t *Thread, h *home) error {
	if err := t.SetSigMask(h.mask); err != nil {
		return err
	}
	return t.SetRegs(h.regs)
}

// chooseDone picks the signal that tells the end: best one that the program
// neither catches nor blocks, so that a genuine one would be ignored anyway
// and the death of ckpt does nothing.
func (t *Thread) chooseDone(busy, mask uint64) {
	for _, avoid := range []uint64{busy | mask, busy, 0} {
		for _, sig := range doneSignals[:ignorable] {
			if avoid&bit(sig) == 0 {
				t.done = sig
				return
			}
		}
	}
}

// Run runs s in any thread of the process.
func (in *Injection) Run(t *Thread, s *Script) error {
	return in.as(t, func() error { return t.Run(in.site, s) })
}

// Syscall runs one call in any thread of the process.
func (in *Injection) Syscall(t *Thread, nr uintptr, args ...uint64) (v uint64, err error) {
	err = in.as(t, func() error {
		v, err = t.Syscall(in.site, nr, args...)
		return err
	})
	return v, err
}

// as lets t go inside for the time of do. The area is then t's to unmap, for
// lead must not take it from under the feet of t.
func (in *Injection) as(t *Thread, do func() error) error {
	if t == in.lead {
		return do()
	}
	var h home
	if err := in.enter(t, guestFrame, &h); err != nil {
		return err
	}
	if err := in.own(guestFrame); err != nil {
		return errors.Join(err, in.leave(t, &h))
	}
	err := do()
	if errors.Is(err, ErrGone) {
		return errors.Join(err, in.own(leadFrame))
	}
	return errors.Join(err, in.own(leadFrame), in.leave(t, &h))
}

// Remove takes everything out again. Every thread then has its own registers
// and signal mask, in a stop from which an interrupted call is restarted, be
// it by Detach or after SetRegs of corrected registers.
func (in *Injection) Remove() error {
	var errs []error
	if in.owner != noFrame {
		if _, err := in.lead.Syscall(in.site, unix.SYS_MUNMAP, in.site.Base, in.site.Size); err != nil {
			errs = append(errs, fmt.Errorf("unmap work area: %w", err))
		}
		errs = append(errs, in.own(noFrame))
	}
	errs = append(errs, in.leave(in.lead, &in.home), in.clear())
	return errors.Join(errs...)
}

// clear puts back what stood in the cave, unless nobody touched it.
func (in *Injection) clear() error {
	defer in.mem.Close()
	now := make([]byte, len(in.cave.old))
	if err := ReadMemory(in.lead.TID, in.cave.addr, now); err == nil && bytes.Equal(now, in.cave.old) {
		return nil
	}
	if err := in.write(in.cave.addr, in.cave.old); err != nil {
		return fmt.Errorf("remove code: %w", err)
	}
	return nil
}
