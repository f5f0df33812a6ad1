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
	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"

	"ckpt/kind"
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
