package kind

import (
	"strings"

	"golang.org/x/sys/unix"
)

// StatusFlags are the flags of the open file description as images hold
// them: without O_CLOEXEC, which belongs to the descriptor.
func (d *Desc) StatusFlags() uint32 { return uint32(d.Info.Flags) &^ unix.O_CLOEXEC }

// InfoLine is what follows "key:" in the first such line that the kind of
// file adds to fdinfo (proc_pid_fdinfo(5)), without the blanks around it; ok
// is false when there is no such line.
func (d *Desc) InfoLine(key string) (value string, ok bool) {
	for _, l := range d.Info.Lines {
		if v, ok := strings.CutPrefix(l, key+":"); ok {
			return strings.TrimSpace(v), true
		}
	}
	return "", false
}
