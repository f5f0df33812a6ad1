package memory

import (
	"cmp"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"golang.org/x/sys/unix"

	"ckpt/image"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/tracee"
)

// bequeath gives a bare child what those born of it are to have from its
// process. nil: nothing.
func (m *maker) bequeath(r *kind.Restore, t *kind.Target) (func(tracee.Runner) error, error) {
	in, err := m.inherited(r)
	if err != nil {
		return nil, err
	}
	if len(in.first[t.VPID])+len(in.given[t.VPID]) == 0 {
		return nil, nil
	}
	files := map[uint64]*os.File{}
	for _, a := range in.first[t.VPID] {
		if a.file != 0 && files[a.file] == nil {
			// Where it fails, so it does when the process is rebuilt, which tells of it.
			if f, err := r.File(uint32(a.file)); err == nil {
				files[a.file] = f
			}
		}
	}
	return func(run tracee.Runner) error {
		e := m.estateOf(t.Heir)
		if err := e.make(run, r, in.first[t.VPID], files); err != nil {
			return err
		}
		m.estates[t.VPID] = e
		return e.fill(run, r, t, in.given[t.VPID])
	}, nil
}

// inherited is read from the image once.
func (m *maker) inherited(r *kind.Restore) (*inheritance, error) {
	if m.common == nil {
		in, err := inherit(r.Targets, func(file uint64) bool { return isReady(r, uint32(file)) })
		if err != nil {
			return nil, err
		}
		m.common = in
	}
	return m.common, nil
}

// isReady tells whether a file can be made before any process is there: one in
// the file system, opened through the container's own mounts.
func isReady(r *kind.Restore, file uint32) bool {
	e := r.Entries[file]
	return e.GetType() == fdinfo.FdTypes_REG && !strings.HasPrefix(e.GetReg().GetName(), "/proc/") && r.Manifest.GetFileMounts()[file] == 0
}

// estateOf is a copy of what those born of v have: of nothing, if v is 0.
func (m *maker) estateOf(v pidns.VPID) *estate {
	e := &estate{}
	if from := m.estates[v]; from != nil {
		e.pieces, e.pages = slices.Clone(from.pieces), slices.Clone(from.pages)
	}
	return e
}

// atOnce is how many mappings are made or dropped by one script of a bare child,
// which has little room.
const atOnce = 64

// make maps pieces of areas, in the place of what it has there of others. One where
// the bare child itself, or what it needs, is mapped is left out, and so is one
// whose file is missing, or for which there is no room (vm.max_map_count): nobody
// inherits that.
func (e *estate) make(run tracee.Runner, r *kind.Restore, pieces []piece, files map[uint64]*os.File) error {
	if err := e.drop(run, pieces); err != nil {
		return err
	}
	most, err := mostMappings()
	if err != nil {
		return err
	}
	pieces = pieces[:min(len(pieces), max(most-2*spare-len(e.pieces), 0))]
	for some := range slices.Chunk(pieces, atOnce) {
		made := map[int]tracee.Step{}
		if err := run(func(s *tracee.Script) error {
			for i, p := range some {
				if f := files[p.file]; f != nil || p.file == 0 {
					made[i] = p.make(s, r, f)
				}
			}
			return nil
		}, func(s *tracee.Script) error {
			for i, step := range made {
				if _, err := s.Result(step); err == nil {
					e.pieces = append(e.pieces, some[i])
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// make adds the calls that map a piece.
func (p piece) make(s *tracee.Script, r *kind.Restore, f *os.File) tracee.Step {
	flags := uint64(unix.MAP_PRIVATE | fixedNoReplace | p.flags)
	var step tracee.Step
	if f == nil {
		step = s.Try(unix.SYS_MMAP, p.Start, p.Len(), readWrite, flags|unix.MAP_ANONYMOUS, noFD, 0)
	} else {
		fd := r.Take(s, f)
		step = s.Try(unix.SYS_MMAP, p.Start, p.Len(), readWrite, flags, 0, p.Start+p.delta)
		s.Feed(fd, step, 4)
		s.Feed(s.Again(fd), s.Must(unix.SYS_CLOSE, 0), 0)
	}
	for _, advice := range hugeAdvice {
		if p.madv&(1<<advice) != 0 {
			s.Feed(s.Again(step), s.Try(unix.SYS_MADVISE, 0, p.Len(), uint64(advice)), 0) // of no address if it is not made
		}
	}
	return step
}

// drop unmaps what it has where others are to be.
func (e *estate) drop(run tracee.Runner, others []piece) error {
	in := merge(ranges(others))
	var stay []piece
	var out []kind.Range
	for _, p := range e.pieces {
		i, _ := slices.BinarySearchFunc(in, p.Start, func(r kind.Range, at uint64) int { return cmp.Compare(r.End, at+1) })
		for ; i < len(in) && in[i].Start < p.End; i++ {
			if in[i].Start > p.Start {
				stay = append(stay, piece{kind.Range{Start: p.Start, End: in[i].Start}, p.area})
			}
			both := cut(p.Range, in[i])
			out = append(out, both)
			p.Start = both.End
		}
		if p.Len() > 0 {
			stay = append(stay, p)
		}
	}
	e.pieces = stay
	out = merge(out)
	e.pages = without(e.pages, out)
	for some := range slices.Chunk(out, atOnce) {
		if err := run(func(s *tracee.Script) error {
			for _, r := range some {
				s.Note(s.Must(unix.SYS_MUNMAP, r.Start, r.Len()), "unmap what others have inherited")
			}
			return nil
		}, nil); err != nil {
			return err
		}
	}
	return nil
}

// fill reads in pages of t. What the image has none of is given to nobody: each
// has its own as well.
func (e *estate) fill(run tracee.Runner, r *kind.Restore, t *kind.Target, given []kind.Range) error {
	given = e.within(given)
	if len(given) == 0 {
		return nil
	}
	pages, err := image.PageRuns(r.In, strconv.Itoa(int(t.VPID)))
	if err != nil {
		return err
	}
	defer pages.Close()
	runs := pick(pages.Runs, given)
	given = rangesOf(runs)
	all, err := sources(runs, r.Memory)
	if err != nil {
		return err
	}
	for _, from := range all {
		if err := from.end(from.readInto(run, r)); err != nil {
			return err
		}
	}
	e.pages = without(e.pages, given)
	for _, g := range given {
		e.pages = append(e.pages, stretch{g, t.VPID})
	}
	slices.SortFunc(e.pages, func(a, b stretch) int { return byStart(a.Range, b.Range) })
	return nil
}

// readInto has a bare child read all, some of it at a time.
func (s *source) readInto(run tracee.Runner, r *kind.Restore) error {
	for len(s.runs) > 0 {
		var step tracee.Step
		var total uint64
		if err := run(func(sc *tracee.Script) error {
			file := r.Take(sc, s.file)
			step, total = s.next(sc, 0)
			sc.Feed(file, step, 0)
			sc.Feed(sc.Again(file), sc.Must(unix.SYS_CLOSE, 0), 0)
			return nil
		}, func(sc *tracee.Script) error { return readAll(sc, step, total) }); err != nil {
			return err
		}
		if s.sent == nil {
			r.Memory.Add(total)
		}
	}
	return nil
}

// within are those parts of given that lie in pieces that are there.
func (e *estate) within(given []kind.Range) []kind.Range {
	return common(given, merge(ranges(e.pieces)))
}

func ranges(pieces []piece) (out []kind.Range) {
	for _, p := range pieces {
		out = append(out, p.Range)
	}
	return out
}

// common is what two lists of ranges, each by address, have in common.
func common(a, b []kind.Range) (out []kind.Range) {
	for len(a) > 0 && len(b) > 0 {
		if both := cut(a[0], b[0]); both.Len() > 0 {
			out = append(out, both)
		}
		if a[0].End < b[0].End {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return out
}

// without leaves out of pages what lies in ranges, both by address.
func without(pages []stretch, ranges []kind.Range) (out []stretch) {
	for _, p := range pages {
		for len(ranges) > 0 && ranges[0].End <= p.Start {
			ranges = ranges[1:]
		}
		for _, r := range ranges {
			if r.Start >= p.End {
				break
			}
			if r.Start > p.Start {
				out = append(out, stretch{kind.Range{Start: p.Start, End: r.Start}, p.of})
			}
			p.Start = min(r.End, p.End)
		}
		if p.Len() > 0 {
			out = append(out, p)
		}
	}
	return out
}

// pick is what there is in runs of ranges, both by address.
func pick(runs []image.Run, ranges []kind.Range) (out []image.Run) {
	for _, r := range ranges {
		for len(runs) > 0 && runs[0].End() <= r.Start {
			runs = runs[1:]
		}
		for _, run := range runs {
			if run.Vaddr >= r.End {
				break
			}
			out = append(out, run.Part(max(run.Vaddr, r.Start), min(run.End(), r.End)))
		}
	}
	return out
}

func rangesOf(runs []image.Run) (out []kind.Range) {
	for _, r := range runs {
		out = append(out, kind.Range{Start: r.Vaddr, End: r.End()})
	}
	return merge(out)
}

// leave is runs without ranges, both by address.
func leave(runs []image.Run, ranges []kind.Range) (out []image.Run) {
	for _, run := range runs {
		at, end := run.Vaddr, run.End()
		for len(ranges) > 0 && ranges[0].End <= at {
			ranges = ranges[1:]
		}
		for _, r := range ranges {
			if r.Start >= end {
				break
			}
			if r.Start > at {
				out = append(out, run.Part(at, r.Start))
			}
			at = min(r.End, end)
		}
		if at < end {
			out = append(out, run.Part(at, end))
		}
	}
	return out
}
