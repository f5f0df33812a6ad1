package procfs

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Mount is one line of /proc/PID/mountinfo (proc_pid_mountinfo(5)). Paths and
// options are unescaped.
type Mount struct {
	ID, Parent int
	Dev        uint64 // as unix.Mkdev makes it
	Root       string // within the file system: what is mounted
	Point      string // from the process's root; unreachable mounts are not shown
	Options    string // per mount: "rw,nosuid,relatime"
	Shared     int    // peer group; 0: private
	Master     int    // of which peer group it is a slave; 0: none
	Propagate  int    // propagate_from
	Unbindable bool
	Type       string // "ext4", "fuse.sshfs"
	Source     string
	Super      string // per super block
}

// HasOption tells whether the mount or its super block has the option.
func (m *Mount) HasOption(name string) bool {
	for _, list := range []string{m.Options, m.Super} {
		for o := range strings.SplitSeq(list, ",") {
			if o == name {
				return true
			}
		}
	}
	return false
}

// Mounts are what a process has mounted, see MountInfo.
func Mounts(pid int) ([]Mount, error) {
	p, err := Open(pid)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	return p.MountInfo()
}

// OnTop is the mount of a type that a process sees at a point: the last one,
// which covers those before; nil: there is none.
func OnTop(pid int, typ, point string) (*Mount, error) {
	mounts, err := Mounts(pid)
	if err != nil {
		return nil, err
	}
	for i := range slices.Backward(mounts) {
		if m := &mounts[i]; m.Type == typ && m.Point == point {
			return m, nil
		}
	}
	return nil, nil
}

// MountInfo reads /proc/PID/mountinfo, in the kernel's order.
func (p *Proc) MountInfo() ([]Mount, error) {
	b, err := p.read("mountinfo", make([]byte, 0, 8192))
	if err != nil {
		return nil, err
	}
	m, err := parseMountInfo(b)
	return m, p.parseErr("mountinfo", err)
}

func parseMountInfo(b []byte) ([]Mount, error) {
	var out []Mount
	for len(b) > 0 {
		var l []byte
		if l, b = line(b); len(l) == 0 {
			continue
		}
		m, err := parseMount(l)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", l, err)
		}
		out = append(out, m)
	}
	return out, nil
}

func parseMount(l []byte) (Mount, error) {
	r := &fields{rest: l}
	m := Mount{ID: int(r.int()), Parent: int(r.int())}
	major, minor, _ := bytes.Cut(r.word(), []byte(":"))
	maj, err := uintOf(major, 10)
	r.keep(err)
	min, err := uintOf(minor, 10)
	r.keep(err)
	m.Dev = unix.Mkdev(uint32(maj), uint32(min))
	m.Root, m.Point, m.Options = unescape(r.word()), unescape(r.word()), unescape(r.word())
	for r.err == nil {
		w := r.word()
		if string(w) == "-" {
			break
		}
		key, v, _ := bytes.Cut(w, []byte(":"))
		switch string(key) {
		case "shared":
			m.Shared, err = number(v)
		case "master":
			m.Master, err = number(v)
		case "propagate_from":
			m.Propagate, err = number(v)
		case "unbindable":
			m.Unbindable = true
		}
		r.keep(err)
	}
	m.Type = unescape(r.word())
	if r.err != nil {
		return m, r.err
	}
	// The source may be empty, and then two blanks follow each other.
	rest := bytes.TrimPrefix(r.rest, []byte(" "))
	source, super, ok := bytes.Cut(rest, []byte(" "))
	if !ok {
		return m, fmt.Errorf("no super block options")
	}
	m.Source, m.Super = unescape(source), unescape(super)
	return m, nil
}
