// Package diff tells what differs between two images: of one container at two
// times, or of two copies that went their own ways.
//
// Processes are the same if they have the same vpid. What an image has of them is
// compared field by field, as its messages have it, so that no kind of thing is
// passed over; numbers that an image gives to its own parts (of files, pipes,
// shared memory) are left out, since another image may count them otherwise. Of
// registers it tells only that a thread has run. Contents of memory are compared
// page by page, in bounded memory.
//
// When an image was made, what its clocks said, how much time is left until an armed
// timer goes off, and on which processor a thread was, is no difference.
package diff

import (
	"context"
	"fmt"
	"slices"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/pstree"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/utsns"

	"ckpt/image"
	"ckpt/inspect"
)

// Report is what differs. Strings are as the programs chose them: whoever prints
// them takes care of control bytes.
type Report struct {
	Same      bool      `json:"same"`
	Container []Change  `json:"container"`
	Came      []ID      `json:"came"`  // processes that only the second image has
	Ended     []ID      `json:"ended"` // processes that only the first has
	Processes []Process `json:"processes"`
	// Memory adds up all processes, and what they share once.
	Memory Amount `json:"memory"`
}

// ID names a process.
type ID struct {
	VPID    uint32   `json:"vpid"`
	VPPID   uint32   `json:"vppid"`
	Comm    string   `json:"comm"`
	Command []string `json:"command,omitempty"`
}

// Change is one thing that both images have, or one of them ("": the other).
type Change struct {
	What string `json:"what"`
	Was  string `json:"was"`
	Is   string `json:"is"`
}

// Process is one that differs.
type Process struct {
	VPID    uint32       `json:"vpid"`
	Comm    string       `json:"comm"`
	Ran     []uint32     `json:"ran"` // threads whose registers differ
	Changes []Change     `json:"changes"`
	Memory  []MemoryPart `json:"memory"`
}

// Amount is contents of memory, in bytes of whole pages.
type Amount struct {
	Changed uint64 `json:"changed"` // both images have them, and they differ
	Added   uint64 `json:"added"`   // only the second has them; before, they were zero, the file's, or not mapped
	Removed uint64 `json:"removed"` // only the first has them
}

func (a *Amount) add(b Amount) {
	a.Changed += b.Changed
	a.Added += b.Added
	a.Removed += b.Removed
}

// MemoryPart is the memory of one mapping.
type MemoryPart struct {
	Mapping string `json:"mapping"`
	Amount
}

// Compare compares image b with the older image a. It reads all of both that may
// differ; a damage is found as it is read.
func Compare(ctx context.Context, a, b *image.Reader) (*Report, error) {
	c := &comparer{ctx: ctx, seen: map[[2]uint64]bool{}}
	for i, r := range []*image.Reader{a, b} {
		s, err := newSide(r)
		if err != nil {
			return nil, err
		}
		c.sides[i] = s
	}
	c.phase = b.Progress().BeginOf(len(c.sides[1].tree), image.PhaseMemory, b.Manifest().GetMemory())
	out := &Report{Came: []ID{}, Ended: []ID{}, Processes: []Process{}}
	var err error
	if out.Container, err = c.container(); err != nil {
		return nil, err
	}
	if err := c.tree(out); err != nil {
		return nil, err
	}
	c.phase.End()
	out.Same = len(out.Container)+len(out.Came)+len(out.Ended)+len(out.Processes) == 0
	return out, nil
}

// comparer is one comparison.
type comparer struct {
	ctx   context.Context
	sides [2]*side
	seen  map[[2]uint64]bool // shared memory that was compared, by both its ids
	bufs  [2][]byte
	phase *image.Phase // counts memory of the second
	rseq  []uint64     // of the process that is compared, see rseqAreas
}

// side is one of the images.
type side struct {
	*inspect.Image
	tree    map[uint32]*pstree.PstreeEntry
	summary map[uint32]*image.Process
	head    *image.Summary
	links   links
	waiting map[string]string // what waits in pipes and sockets, by "pipe N" and the like
}

func newSide(r *image.Reader) (*side, error) {
	in, err := inspect.Load(r)
	if err != nil {
		return nil, err
	}
	s := &side{Image: in, tree: map[uint32]*pstree.PstreeEntry{}, summary: map[uint32]*image.Process{}}
	if s.head, err = image.Summarize(r); err != nil {
		return nil, err
	}
	for i := range s.head.Processes {
		s.summary[s.head.Processes[i].VPID] = &s.head.Processes[i]
	}
	for _, e := range in.Tree {
		s.tree[e.GetPid()] = e
	}
	s.link()
	return s, s.queues()
}

// id names a process of the image.
func (s *side) id(vpid uint32) ID {
	p := s.summary[vpid]
	return ID{VPID: vpid, VPPID: p.VPPID, Comm: p.Comm, Command: p.Command}
}

// container compares what is of no process.
func (c *comparer) container() ([]Change, error) {
	var both [2]facts
	for i, s := range c.sides {
		f := facts{}
		m := s.In.Manifest()
		f.text("name", m.GetName())
		f.text("command", command(m.GetCommand()))
		f.text("made by", s.head.MadeBy)
		f.text("kernel", m.GetMachine().GetKernel())
		f.text("machine", m.GetMachine().GetArch())
		if m != nil {
			f.text("network", map[bool]string{true: "its own", false: "the host's"}[m.GetNetNone()])
			f.text("pid 1", map[bool]string{true: "its own", false: "ckpt's init"}[m.GetNoInit()])
		}
		if err := hostName(s.In, f); err != nil {
			return nil, err
		}
		if err := objects(s.In, f); err != nil {
			return nil, err
		}
		both[i] = f
	}
	return changes(both[0], both[1]), nil
}

func hostName(r *image.Reader, f facts) error {
	return image.Each(r, image.UTSNS, image.UTSNS.ID(image.NamespaceID), func(m *utsns.UtsnsEntry, _ func(int) ([]byte, error)) error {
		f.text("host name", m.GetNodename())
		f.text("domain name", m.GetDomainname())
		return nil
	})
}

// tree compares the processes, those of the first image first.
func (c *comparer) tree(out *Report) error {
	for _, e := range c.sides[0].Tree {
		if c.sides[1].tree[e.GetPid()] == nil {
			out.Ended = append(out.Ended, c.sides[0].id(e.GetPid()))
		}
	}
	for _, e := range c.sides[1].Tree {
		old := c.sides[0].tree[e.GetPid()]
		if old == nil {
			out.Came = append(out.Came, c.sides[1].id(e.GetPid()))
		}
		p, err := c.process(old, e)
		if err != nil {
			return fmt.Errorf("pid %d (%s): %w", e.GetPid(), c.sides[1].summary[e.GetPid()].Comm, err)
		}
		for _, m := range p.Memory {
			out.Memory.add(m.Amount)
		}
		if old != nil && len(p.Ran)+len(p.Changes)+len(p.Memory) > 0 {
			out.Processes = append(out.Processes, *p)
		}
	}
	return nil
}

// process compares one that both images have.
func (c *comparer) process(a, b *pstree.PstreeEntry) (*Process, error) {
	if a == nil {
		return &Process{}, nil
	}
	out := &Process{VPID: b.GetPid(), Comm: c.sides[1].summary[b.GetPid()].Comm, Ran: []uint32{}, Changes: []Change{}, Memory: []MemoryPart{}}
	var ps [2]*inspect.Process
	for i, e := range []*pstree.PstreeEntry{a, b} {
		var err error
		if ps[i], err = c.sides[i].Process(e); err != nil {
			return nil, err
		}
	}
	out.Ran = append(out.Ran, ran(ps[0], ps[1])...)
	out.Changes = append(out.Changes, changes(c.sides[0].facts(ps[0]), c.sides[1].facts(ps[1]))...)
	if ps[0].Zombie() || ps[1].Zombie() {
		return out, nil
	}
	mappings := mappingChanges(c.sides[0].mappings(ps[0]), c.sides[1].mappings(ps[1]))
	out.Changes = append(out.Changes, mappings...)
	parts, err := c.memory(ps[0], ps[1])
	out.Memory = append(out.Memory, parts...)
	return out, err
}

// ran are the threads of both whose registers differ.
func ran(a, b *inspect.Process) (out []uint32) {
	for i := range b.Threads {
		t := &b.Threads[i]
		at := slices.IndexFunc(a.Threads, func(o inspect.Thread) bool { return o.VTID == t.VTID })
		if at >= 0 && !sameRegisters(&a.Threads[at], t) {
			out = append(out, t.VTID)
		}
	}
	return out
}
