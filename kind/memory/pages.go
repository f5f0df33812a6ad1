package memory

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/procfs"
	"ckpt/tracee"
)

// chunk is how much is copied at a time, in bytes: it stays in the L2 cache
// of most machines.
const chunk = 1 << 20

// leastShared is how large a mapping is, in bytes, whose pages are looked for among
// those of other processes. A process that has no such page is one that all tools
// for CRIU's images can read the memory of (image.PagesWriter.Alone).
const leastShared = 512 << 10

// bulk writes the pages of p, and looks whether all that was saved so far still is
// as it was.
func (s *saver) bulk(ctx context.Context, d *kind.Dump, p *kind.Proc) (uint64, error) {
	n, err := s.contents(ctx, d, p)
	if err == nil {
		err = s.checkRings()
	}
	return n, err
}

// contents writes the private pages of p, and shared memory no process before it
// had.
func (s *saver) contents(ctx context.Context, d *kind.Dump, p *kind.Proc) (uint64, error) {
	n, err := s.sharedContents(ctx, d, p)
	if err != nil || p.SharesVM != nil {
		return n, err
	}
	out, err := d.Out.Pages(strconv.Itoa(int(p.VPID)))
	if err != nil {
		return n, err
	}
	pagemap, err := p.FS.OpenFile("pagemap", os.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		return n, err
	}
	defer pagemap.Close()
	from, err := readerOf(p, pagemap)
	if err != nil {
		return n, err
	}
	defer from.close()
	family, err := familyOf(p)
	if err != nil {
		return n, err
	}
	defer family.close()
	c := copier{ctx: ctx, from: from, out: out, buf: make([]byte, chunk), family: family}
	regions := make([]kernel.PageRegion, 4096)
	for i := range p.Maps {
		m := &p.Maps[i]
		if m.Len() < leastShared {
			out.Alone(m.Start, m.End)
		}
		if m.IsVDSO() {
			err = c.vdso(m)
		}
		if err != nil {
			return n + c.written, err
		}
		if m.IsSpecial() {
			continue
		}
		if err := c.mapping(m, pagemap, regions); err != nil {
			return n + c.written, fmt.Errorf("mapping %#x-%#x %s: %w", m.Start, m.End, m.Path, err)
		}
		if len(c.guards) > 0 {
			extraOf(p, m.Start).Guards, c.guards = c.guards, nil
		}
	}
	if family != nil {
		p.Extra.Inherited = family.found
	}
	return n + c.written, out.Close()
}

// mapping writes the pages of one mapping and notes its guard pages.
func (c *copier) mapping(m *procfs.Map, pagemap *os.File, regions []kernel.PageRegion) error {
	c.within, c.skipZeros = c.family.mapping(m), !m.File() || isHuge(m) // anonymous memory is zero by itself
	for at := m.Start; at < m.End; {
		var found int
		var next uint64
		var err error
		if m.Shared || m.Has("dp") {
			found, next, err = kernel.GuardPages(pagemap, at, m.End, regions)
		} else {
			found, next, err = kernel.OwnPages(pagemap, at, m.End, regions)
		}
		if err != nil {
			return err
		}
		for _, r := range regions[:found] {
			if r.Categories&kernel.PageGuard != 0 {
				c.guards = append(c.guards, &image.Range{Start: r.Start, End: r.End})
				continue
			}
			if err := c.copy(r.Start, r.End); err != nil {
				return err
			}
		}
		at = next
	}
	return nil
}

// copier moves pages of a process into a pages file.
type copier struct {
	ctx       context.Context
	from      *reader
	out       *image.PagesWriter
	buf       []byte
	skipZeros bool
	written   uint64
	guards    []*image.Range // of the present mapping
	family    *family        // nil: it has nothing of its parent's
	within    []kind.Range   // parts of the present mapping that the parent has, too
}

func (c *copier) copy(start, end uint64) error {
	for at := start; at < end; {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		b := c.buf[:min(uint64(len(c.buf)), end-at)]
		shared, err := c.from.read(at, b)
		if err != nil {
			if errors.Is(err, unix.EFAULT) || errors.Is(err, unix.EIO) {
				err = failure.WithHint(failure.Unsupportedf("there are guard pages (MADV_GUARD_INSTALL), which this kernel does not tell from others: %w", err),
					"dump under Linux 6.15 or later")
			}
			return err
		}
		n, err := writePages(c.out, b, at, c.skipZeros)
		c.written += n
		if err != nil {
			return err
		}
		if err := c.family.compare(at, b, shared, c.within, c.skipZeros); err != nil {
			return err
		}
		at += uint64(len(b))
	}
	return nil
}

// writePages writes whole pages that stand at address at, those of zeros left
// out if skipZeros says so.
func writePages(out *image.PagesWriter, b []byte, at uint64, skipZeros bool) (written uint64, err error) {
	for i := 0; i < len(b); {
		if skipZeros && isZero(b[i:i+page]) {
			i += page
			continue
		}
		j := i + page
		for j < len(b) && !(skipZeros && isZero(b[j:j+page])) {
			j += page
		}
		if err := out.Write(at+uint64(i), b[i:j]); err != nil {
			return written, err
		}
		written += uint64(j - i)
		i = j
	}
	return written, nil
}

// window is a part of a shared object that a process maps.
type window struct {
	off, end uint64 // within the object, bytes
	proc     *kind.Proc
	m        *procfs.Map
}

// sharedContents writes each shared anonymous object that p maps and that
// has not been written yet.
func (s *saver) sharedContents(ctx context.Context, d *kind.Dump, p *kind.Proc) (n uint64, err error) {
	for i := range p.Maps {
		m := &p.Maps[i]
		if !s.isShared(d, m) {
			continue
		}
		id := s.shmid[object{m.Dev, m.Ino}]
		if s.done[id] {
			continue
		}
		s.done[id] = true
		out, err := d.Out.Pages(fmt.Sprintf("shmem-%d", id))
		if err != nil {
			return n, err
		}
		c := sharedCopier{ctx: ctx, out: out, buf: make([]byte, chunk), there: s.there}
		err = c.copyAll(windows(d, object{m.Dev, m.Ino}, isAnonShared))
		n += c.written
		if err == nil {
			err = out.Close()
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// windows are all mappings of an object that are of the right sort, by offset.
func windows(d *kind.Dump, o object, is func(*procfs.Map) bool) []window {
	var ws []window
	for _, q := range d.Procs {
		for i := range q.Maps {
			if m := &q.Maps[i]; is(m) && (object{m.Dev, m.Ino}) == o {
				ws = append(ws, window{m.Offset, m.Offset + m.Len(), q, m})
			}
		}
	}
	slices.SortFunc(ws, func(a, b window) int {
		if a.off != b.off {
			if a.off < b.off {
				return -1
			}
			return 1
		}
		return 0
	})
	return ws
}

type sharedCopier struct {
	ctx     context.Context
	out     *image.PagesWriter
	buf     []byte
	written uint64
	there   map[*procfs.Map][]kind.Range // see findResident
}

// copyAll writes what can be seen through the windows, each byte once. Parts
// of the object that nobody maps are out of everybody's reach.
func (c *sharedCopier) copyAll(ws []window) error {
	at := uint64(0)
	for _, w := range ws {
		at = max(at, w.off)
		if at >= w.end {
			continue
		}
		if err := c.copyWindow(w, at); err != nil {
			return err
		}
		at = w.end
	}
	return nil
}

// copyWindow writes [from, w.end) of the object. Through map_files (root)
// holes are seen and left alone; reading a hole through the mapping, the
// ordinary user's way, makes the kernel give it a page of zeros, so that of
// large ones only what is there is read.
func (c *sharedCopier) copyWindow(w window, from uint64) error {
	f, err := w.proc.FS.OpenFile(fmt.Sprintf("map_files/%x-%x", w.m.Start, w.m.End), os.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		pid := int(w.proc.Lead().Host)
		there, known := c.there[w.m]
		if !known {
			there = []kind.Range{{Start: from, End: w.end}}
		}
		for _, r := range common(there, []kind.Range{{Start: from, End: w.end}}) {
			if err := c.copyRange(r.Start, r.End, func(b []byte, off uint64) error {
				err := tracee.ReadMemory(pid, w.m.Start+off-w.off, b)
				if w.m.Has("ht") && (errors.Is(err, unix.EFAULT) || errors.Is(err, unix.EIO)) {
					clear(b) // a hole, and no huge page is free to fill it
					return nil
				}
				return err
			}); err != nil {
				return err
			}
		}
		return nil
	}
	defer f.Close()
	for from < w.end {
		data, err := unix.Seek(int(f.Fd()), int64(from), unix.SEEK_DATA)
		if err == unix.ENXIO || err == nil && uint64(data) >= w.end {
			return nil
		}
		if err != nil {
			return fmt.Errorf("look for data in shared memory: %w", err)
		}
		hole, err := unix.Seek(int(f.Fd()), data, unix.SEEK_HOLE)
		if err != nil {
			return fmt.Errorf("look for holes in shared memory: %w", err)
		}
		end := min((uint64(hole)+page-1)&^(page-1), w.end)
		if err := c.copyRange(uint64(data)&^(page-1), end, func(b []byte, off uint64) error {
			_, err := f.ReadAt(b, int64(off))
			return err
		}); err != nil {
			return err
		}
		from = end
	}
	return nil
}

func (c *sharedCopier) copyRange(from, end uint64, read func([]byte, uint64) error) error {
	for from < end {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		b := c.buf[:min(uint64(len(c.buf)), end-from)]
		if err := read(b, from); err != nil {
			return fmt.Errorf("read shared memory: %w", err)
		}
		n, err := writePages(c.out, b, from, true)
		c.written += n
		if err != nil {
			return err
		}
		from += uint64(len(b))
	}
	return nil
}

var zeros [page]byte

func isZero(b []byte) bool { return string(b) == string(zeros[:]) }
