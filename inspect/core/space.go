package core

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/remap-file-path"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/vma"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/inspect"
	"ckpt/kernel"
)

// Bits of vma_entry.status (CRIU's image.h).
const (
	vsyscall    = 1 << 2
	vdso        = 1 << 3
	filePrivate = 1 << 6
	fileShared  = 1 << 7
	anonShared  = 1 << 8
	sysv        = 1 << 10
	vvar        = 1 << 12
	aioRing     = 1 << 13
	memfd       = 1 << 14
)

// space is an address space: where the contents of its mappings are.
type space struct {
	in      *inspect.Image
	p       *inspect.Process
	filter  uint32          // coredump_filter, see core(5)
	own     *image.Contents // private memory
	shared  sharedMemory
	files   map[uint32]*mappedFile // by id in files.img
	deleted map[uint32]bool        // files without a name, by id
	ghosts  ghosts
	vdso    []byte // of the kernel the process ran on, if this is the same
	lacks   []Lacks
}

func newSpace(in *inspect.Image, p *inspect.Process) (*space, error) {
	s := &space{in: in, p: p, filter: byDefault, shared: sharedMemory{in: in.In}, files: map[uint32]*mappedFile{}, deleted: map[uint32]bool{},
		ghosts: ghosts{in: in.In, of: map[uint32]uint64{}}}
	if p.Task.CoredumpFilter != nil {
		s.filter = p.Task.GetCoredumpFilter()
	}
	if err := checkMappings(p.MM.GetVmas()); err != nil {
		return nil, err
	}
	err := image.Each(in.In, image.RemapFpath, "", func(e *remap_file_path.RemapFilePathEntry, _ func(int) ([]byte, error)) error {
		s.deleted[e.GetOrigId()] = true
		if e.GetRemapType() == remap_file_path.RemapType_GHOST {
			s.ghosts.of[e.GetOrigId()] = uint64(e.GetRemapId())
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	id, err := in.Space(p)
	if err != nil {
		return nil, err
	}
	if s.own, err = in.In.Contents(id); err != nil {
		return nil, err
	}
	code, err := kernel.VDSOCode()
	if err != nil {
		s.close()
		return nil, err
	}
	if sum := sha256.Sum256(code); bytes.Equal(sum[:], in.In.Manifest().GetMachine().GetVdso()) {
		s.vdso = code
	}
	return s, nil
}

func (s *space) close() {
	s.own.Close()
	s.shared.close()
	s.ghosts.close()
	for _, f := range s.files {
		f.close()
	}
}

// checkMappings refuses what is out of order: sizes are computed from it.
func checkMappings(vmas []*vma.VmaEntry) error {
	end := uint64(0)
	for _, v := range vmas {
		if v.GetStart() < end || v.GetEnd() <= v.GetStart() || (v.GetStart()|v.GetEnd()|v.GetPgoff())%image.PageSize != 0 ||
			v.GetPgoff()+v.GetEnd()-v.GetStart() < v.GetPgoff() {
			return failure.Damagedf("mapping %#x-%#x is out of place", v.GetStart(), v.GetEnd())
		}
		end = v.GetEnd()
	}
	return nil
}

// sharedMemory reads pieces of shared memory, of which it has one open.
type sharedMemory struct {
	in *image.Reader
	last[*image.Contents]
}

func (m *sharedMemory) open(id uint64) (*image.Contents, error) {
	return m.get(id, func() (*image.Contents, error) { return m.in.Contents(fmt.Sprintf("shmem-%d", id)) })
}

// object is one piece of it.
type object struct {
	m  *sharedMemory
	id uint64
}

func (o object) ReadAt(b []byte, at int64) (int, error) {
	c, err := o.m.open(o.id)
	if err != nil {
		return 0, err
	}
	return c.ReadAt(b, at)
}

var _ io.ReaderAt = object{}

// path is the name of a mapped file, as /proc/PID/maps shows it; "": no file.
func (s *space) path(v *vma.VmaEntry) string {
	if v.GetStatus()&(filePrivate|fileShared) == 0 {
		return ""
	}
	id := uint32(v.GetShmid())
	e := s.in.Files[id]
	switch {
	case e.GetMemfd() != nil:
		return "/memfd:" + s.in.Memfds[uint64(e.GetMemfd().GetInodeId())].GetName() + " (deleted)"
	case s.deleted[id]:
		return e.GetReg().GetName() + " (deleted)"
	}
	return e.GetReg().GetName()
}

// fileNote is NT_FILE: which parts of which files are mapped where.
func (s *space) fileNote() []byte {
	le := binary.LittleEndian
	var rows, names []byte
	count := uint64(0)
	for _, v := range s.p.MM.GetVmas() {
		path := s.path(v)
		if path == "" {
			continue
		}
		count++
		rows = le.AppendUint64(rows, v.GetStart())
		rows = le.AppendUint64(rows, v.GetEnd())
		rows = le.AppendUint64(rows, v.GetPgoff()/image.PageSize)
		names = append(append(names, path...), 0)
	}
	b := le.AppendUint64(nil, count)
	b = le.AppendUint64(b, image.PageSize)
	return append(append(b, rows...), names...)
}

// arguments is the command line on one line, at most n bytes.
func (s *space) arguments(n int) string {
	if c := s.p.Task.GetCmdline(); len(c) > 0 {
		return strings.Join(c, " ")
	}
	start, end := s.p.MM.GetMmArgStart(), s.p.MM.GetMmArgEnd()
	if end <= start {
		return ""
	}
	b := make([]byte, min(uint64(n), end-start))
	if _, err := s.own.ReadAt(b, int64(start)); err != nil {
		return "" // whatever is wrong is found once more, and told, with the contents
	}
	return string(bytes.ReplaceAll(bytes.TrimRight(b, "\x00"), []byte{0}, []byte{' '}))
}
