package foreign

import (
	"encoding/binary"
	"maps"
	"math"
	"slices"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/tty"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
)

// Major numbers (Documentation/admin-guide/devices.txt): that of /dev/ptmx, by
// which a master's entry in tty-info.img is known, and that of /dev/pts/N.
const (
	masterMajor = 5
	slaveMajor  = 136
)

// terminals refuses those that are not whole in the image: a program's own
// window, the console.
func (t *translation) terminals() error {
	all, err := each[*tty.TtyInfoEntry](t.r, image.TTYInfo, "")
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return nil
	}
	masters, slaves := map[uint32]*tty.TtyInfoEntry{}, map[uint32]bool{} // by index
	next := uint32(1)
	for _, e := range all {
		next = max(next, e.GetId()+1)
		if n := e.GetPty().GetIndex(); unix.Major(uint64(e.GetRdev())) == masterMajor {
			masters[n] = e
		} else {
			slaves[n] = true
		}
	}
	for _, e := range all {
		const hint = "dump the program without a terminal (setsid, nohup), its input and output in files"
		switch {
		case e.GetType() != tty.TtyType_PTY || e.GetPty() == nil:
			t.refuse(failure.WithHint(failure.Unsupportedf("tty-info.img: a terminal of type %s (device %d:%d) is not carried", e.GetType(), unix.Major(uint64(e.GetRdev())), unix.Minor(uint64(e.GetRdev()))), hint))
		case masters[e.GetPty().GetIndex()] == nil:
			t.refuse(failure.WithHint(failure.Unsupportedf("tty-info.img: the other end of the terminal /dev/pts/%d is outside of the image", e.GetPty().GetIndex()), hint))
		}
	}
	waiting, err := each[*tty.TtyDataEntry](t.r, image.TTYData, "")
	if err != nil {
		return err
	}
	if len(waiting) > 0 { // where it would be read, and how far a line goes, it does not tell
		t.refuse(failure.WithHint(failure.Unsupportedf("tty-data.img: what waits to be read in a terminal is not carried from an image of criu's"), "dump the program when it has read its input"))
	}
	for _, e := range all {
		characters(e.GetTermios())
		characters(e.GetTermiosLocked())
		if m := masters[e.GetPty().GetIndex()]; e.GetSid() == 0 && m != nil {
			e.Sid, e.Pgrp = m.Sid, m.Pgrp // those of the slave, which CRIU asks the master for
		}
	}
	for _, n := range slices.Sorted(maps.Keys(masters)) {
		if !slaves[n] { // nobody has it open: ckpt has its entry nevertheless
			e := proto.CloneOf(masters[n])
			e.Id, e.Rdev = proto.Uint32(next), proto.Uint32(uint32(unix.Mkdev(slaveMajor, n)))
			e.Locked, e.Exclusive, e.PacketMode = proto.Bool(false), proto.Bool(false), proto.Bool(false)
			all, next = append(all, e), next+1
		}
	}
	return put(t, image.TTYInfo, "", all...)
}

// characters gives the special characters of a terminal one by one (c_cc of
// termios(3)): CRIU 4.1.1 writes four to a number, and what is in its memory
// behind them.
func characters(e *tty.TermiosEntry) {
	if !slices.ContainsFunc(e.GetCCc(), func(v uint32) bool { return v > math.MaxUint8 }) {
		return
	}
	var b []byte
	for _, v := range e.GetCCc() {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	for i := range e.CCc {
		e.CCc[i] = uint32(b[i])
	}
}
