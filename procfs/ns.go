package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// IDMap is one line of uid_map or gid_map (user_namespaces(7)): Count ids from
// Inside on in the process's user namespace are those from Outside on in the
// reader's (or in the parent's, if the reader is in the same one).
type IDMap struct{ Inside, Outside, Count uint32 }

// IDMaps is a whole uid_map or gid_map.
type IDMaps []IDMap

// Inside translates an id of the reader's user namespace.
func (ms IDMaps) Inside(outside uint32) (uint32, bool) {
	for _, m := range ms {
		if outside >= m.Outside && outside-m.Outside < m.Count {
			return m.Inside + (outside - m.Outside), true
		}
	}
	return 0, false
}

// Outside is the other direction.
func (ms IDMaps) Outside(inside uint32) (uint32, bool) {
	for _, m := range ms {
		if inside >= m.Inside && inside-m.Inside < m.Count {
			return m.Outside + (inside - m.Inside), true
		}
	}
	return 0, false
}

// Within is what the maps of a user namespace are in terms of the one around
// it, whose own are around, both as one reader sees them; nil: he is in it. ok
// is false where an id has no number there.
func (ms IDMaps) Within(around IDMaps) (_ IDMaps, ok bool) {
	if around == nil {
		return ms, true
	}
	var out IDMaps
	for _, m := range ms {
		for m.Count > 0 {
			i := slices.IndexFunc(around, func(a IDMap) bool { return m.Outside >= a.Outside && m.Outside-a.Outside < a.Count })
			if i < 0 {
				return nil, false
			}
			from := m.Outside - around[i].Outside
			n := min(m.Count, around[i].Count-from)
			out = append(out, IDMap{m.Inside, around[i].Inside + from, n})
			m.Inside, m.Outside, m.Count = m.Inside+n, m.Outside+n, m.Count-n
		}
	}
	return out, true
}

// UIDMap reads /proc/PID/uid_map, GIDMap gid_map.
func (p *Proc) UIDMap() (IDMaps, error) { return p.idMap("uid_map") }
func (p *Proc) GIDMap() (IDMaps, error) { return p.idMap("gid_map") }

func (p *Proc) idMap(rel string) (IDMaps, error) {
	b, err := p.read(rel, make([]byte, 0, 512))
	if err != nil {
		return nil, err
	}
	m, err := parseIDMap(b)
	return m, p.parseErr(rel, err)
}

func parseIDMap(b []byte) (IDMaps, error) {
	var out IDMaps
	for len(b) > 0 {
		var l []byte
		if l, b = line(b); len(l) == 0 {
			continue
		}
		u, err := uints(l)
		if err != nil {
			return nil, err
		}
		if len(u) != 3 {
			return nil, fmt.Errorf("%q is not three numbers", l)
		}
		out = append(out, IDMap{u[0], u[1], u[2]})
	}
	return out, nil
}

// TimensOffset is one line of timens_offsets (time_namespaces(7)).
type TimensOffset struct {
	Clock string // "monotonic", "boottime"
	Sec   int64
	Nsec  int64
}

// TimensOffsets are the offsets of the time namespace that the process's
// children are born into (ns/time_for_children), which is its own unless it
// called unshare(2). None where the kernel has no time namespaces.
func (p *Proc) TimensOffsets() ([]TimensOffset, error) {
	b, err := p.read("timens_offsets", make([]byte, 0, 256))
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	o, err := parseTimens(b)
	return o, p.parseErr("timens_offsets", err)
}

// parseTimens: before 5.6 was out the clocks were numbers.
func parseTimens(b []byte) ([]TimensOffset, error) {
	var out []TimensOffset
	for len(b) > 0 {
		var l []byte
		if l, b = line(b); len(l) == 0 {
			continue
		}
		clock, rest := next(l)
		v, err := ints(rest)
		if err != nil {
			return nil, err
		}
		if len(v) != 2 {
			return nil, fmt.Errorf("%q is not a clock and two numbers", l)
		}
		out = append(out, TimensOffset{string(bytes.Clone(clock)), int64(v[0]), int64(v[1])})
	}
	return out, nil
}

// Cgroup is one line of /proc/PID/cgroup (cgroups(7)).
type Cgroup struct {
	ID          int    // 0: the version 2 hierarchy
	Controllers string // "cpu,cpuacct", "name=systemd"; empty for version 2
	Path        string // within the reader's cgroup namespace
}

// Cgroups reads /proc/PID/cgroup.
func (p *Proc) Cgroups() ([]Cgroup, error) {
	b, err := p.read("cgroup", make([]byte, 0, 1024))
	if err != nil {
		return nil, err
	}
	c, err := parseCgroup(b)
	return c, p.parseErr("cgroup", err)
}

// Cgroup is the path in the version 2 hierarchy; ok is false if there is none.
func (p *Proc) Cgroup() (path string, ok bool, err error) {
	all, err := p.Cgroups()
	for _, c := range all {
		if c.ID == 0 {
			return c.Path, true, err
		}
	}
	return "", false, err
}

func parseCgroup(b []byte) ([]Cgroup, error) {
	var out []Cgroup
	for len(b) > 0 {
		var l []byte
		if l, b = line(b); len(l) == 0 {
			continue
		}
		f := bytes.SplitN(l, []byte(":"), 3)
		if len(f) != 3 {
			return nil, fmt.Errorf("%q is not id:controllers:path", l)
		}
		id, err := uintOf(f[0], 10)
		if err != nil {
			return nil, err
		}
		out = append(out, Cgroup{int(id), string(f[1]), string(f[2])})
	}
	return out, nil
}
