package restore

import (
	"cmp"
	"fmt"
	"slices"

	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/procfs"
)

const (
	// areaSize is the room for the code and the scripts of a process being
	// rebuilt, in bytes. Only what a script fills is ever touched.
	areaSize = 64 << 20
	// parkSize is the part of it that Restore.Park is.
	parkSize = 1 << 20
	// margin keeps reserved ranges clear of stacks that grow, if there is room.
	margin  = 16 << 20
	lowest  = 64 << 10 // vm.mmap_min_addr at most
	highest = 1<<47 - 1<<21
	page    = 4096
)

// reserve finds size bytes that are free in every process of the image, in
// the bare children, and of what has been reserved before.
func (s *session) reserve(size uint64) (kind.Range, error) {
	size = (size + page - 1) &^ (page - 1)
	var used []kind.Range
	for _, t := range s.r.Targets {
		for _, v := range t.MM.GetVmas() {
			used = append(used, kind.Range{Start: v.GetStart(), End: v.GetEnd()})
		}
	}
	stub, err := s.stubMaps()
	if err != nil {
		return kind.Range{}, err
	}
	for _, m := range stub {
		used = append(used, kind.Range{Start: m.Start, End: m.End})
	}
	used = append(used, s.r.Kept...)
	r, ok := gap(used, size, margin)
	if !ok {
		r, ok = gap(used, size, page)
	}
	if !ok {
		return r, fmt.Errorf("no %d bytes of addresses are free in all processes", size)
	}
	s.r.Kept = append(s.r.Kept, r)
	slices.SortFunc(s.r.Kept, byStart)
	return r, nil
}

func byStart(a, b kind.Range) int { return cmp.Compare(a.Start, b.Start) }

// gap is the lowest range of size bytes with a margin to all used ones.
func gap(used []kind.Range, size, margin uint64) (kind.Range, bool) {
	slices.SortFunc(used, byStart)
	at := uint64(lowest + margin)
	for _, u := range used {
		if u.Start >= at && u.Start-at >= size+margin {
			break
		}
		at = max(at, u.End+margin)
	}
	return kind.Range{Start: at, End: at + size}, at+size+margin <= highest
}

// stubMaps are the mappings of vpid 1, which all bare children have inherited,
// and those of the ones that have executed a program since: they are at the same
// place in all (tracee.Execute).
func (s *session) stubMaps() (maps []procfs.Map, err error) {
	hosts := []pidns.HostPID{pidns.HostPID(s.root.HostPID)}
	for v := range s.executed {
		hosts = append(hosts, pidns.HostPID(s.stubs[v].PID))
		break
	}
	for _, host := range hosts {
		p, err := procfs.OpenAt(s.r.HostProc, host.String())
		if err != nil {
			return nil, err
		}
		of, err := p.MapsOnly()
		p.Close()
		if err != nil {
			return nil, err
		}
		maps = append(maps, of...)
	}
	return maps, nil
}
