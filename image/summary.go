package image

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/fs"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/inventory"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/memfd"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/mm"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/pstree"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/siginfo"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/timer"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/utsns"
	"golang.org/x/sys/unix"
)

// Summary is what an image holds, as `ckpt inspect` shows it. Strings are as
// the programs chose them: whoever prints them takes care of control bytes.
type Summary struct {
	// MadeBy is "ckpt", or "criu" for an image without a manifest, which has
	// neither name nor command nor time.
	MadeBy  string     `json:"made_by"`
	Name    string     `json:"name,omitempty"`
	Command []string   `json:"command,omitempty"`
	Created *time.Time `json:"created,omitempty"`
	Format  uint32     `json:"format,omitempty"`
	Kernel  string     `json:"kernel,omitempty"`
	Arch    string     `json:"arch,omitempty"`
	CPU     string     `json:"cpu,omitempty"` // as its maker calls it
	// HostName is the container's own; images of criu's have it, too.
	HostName string `json:"host_name,omitempty"`
	// Parent is where the image that this one was made after is, from its directory.
	Parent string `json:"parent,omitempty"`
	// Compressed and Encrypted tell how files are stored.
	Compressed bool `json:"compressed,omitempty"`
	Encrypted  bool `json:"encrypted,omitempty"`
	// SignedBy is the fingerprint of the key that the image says it is signed by
	// (Reader.Signer), for the caller to fill in.
	SignedBy string `json:"signed_by,omitempty"`
	// OwnNetwork: the container has a network namespace of its own.
	OwnNetwork bool  `json:"own_network,omitempty"`
	Size       int64 `json:"size"` // of all files, in bytes
	// Memory adds up the processes; memory that several share counts in each.
	Memory Memory `json:"memory"`
	// Pages counts each address space and piece of shared memory once.
	Pages     PageBytes `json:"pages"`
	Processes []Process `json:"processes"`
	// Sockets are those of all processes, each once.
	Sockets []Socket `json:"sockets"`
}

// Process is one process of the image.
type Process struct {
	VPID    uint32   `json:"vpid"`
	VPPID   uint32   `json:"vppid"`
	VPGID   uint32   `json:"vpgid"`
	VSID    uint32   `json:"vsid"`
	Comm    string   `json:"comm"`
	Command []string `json:"command,omitempty"`
	Exe     string   `json:"exe,omitempty"`
	Cwd     string   `json:"cwd,omitempty"`
	Root    string   `json:"root,omitempty"`
	Umask   uint32   `json:"umask"`
	State   string   `json:"state"` // running, stopped, zombie
	// Status is that of a zombie, as wait(2) gives it.
	Status *uint32 `json:"status,omitempty"`
	// Nested are its ids in the pid namespaces below the container's, outer ones first.
	Nested  []uint32     `json:"nested,omitempty"`
	UID     uint32       `json:"uid"` // effective, as seen inside
	GID     uint32       `json:"gid"`
	Threads []TaskThread `json:"threads"`
	Memory  Memory       `json:"memory"`
	// SharesMemory is the process whose address space it has (clone(2) with CLONE_VM).
	SharesMemory uint32  `json:"shares_memory_with,omitempty"`
	Files        []File  `json:"files"`
	Timers       []Timer `json:"timers"`
	// Pending are the signals that wait, for it or one of its threads.
	Pending []uint32 `json:"pending_signals"`
}

// TaskThread is one thread.
type TaskThread struct {
	VTID uint32 `json:"vtid"`
	Comm string `json:"comm"`
}

// File is a descriptor.
type File struct {
	FD   uint32 `json:"fd"`
	ID   uint32 `json:"id"`   // equal for descriptors of one open file description
	Type string `json:"type"` // file, pipe, tcp, unix, eventfd, ...
	What string `json:"what"` // a path, addresses, a state
	// Pos is where a file is read or written next, in bytes.
	Pos         *uint64 `json:"pos,omitempty"`
	CloseOnExec bool    `json:"cloexec,omitempty"`
}

// Socket is a socket with its holders.
type Socket struct {
	ID   uint32 `json:"id"`
	Type string `json:"type"`
	What string `json:"what"`
	// State, Local and Remote are parts of What: "listening", addresses, names.
	State  string   `json:"state,omitempty"`
	Local  string   `json:"local,omitempty"`
	Remote string   `json:"remote,omitempty"`
	VPIDs  []uint32 `json:"vpids"` // who holds it
}

// Timer is a timer that is armed or exists by a number.
type Timer struct {
	Type     string        `json:"type"` // real, virtual, prof (setitimer(2)); posix
	ID       *uint32       `json:"id,omitempty"`
	Signal   uint32        `json:"signal,omitempty"`
	Left     time.Duration `json:"left_ns"` // 0: not armed
	Interval time.Duration `json:"interval_ns,omitempty"`
}

// summarizer holds what the files of an image refer to.
type summarizer struct {
	r      *Reader
	files  map[uint32]*fdinfo.FileEntry
	memfds map[uint32]*memfd.MemfdInodeEntry // by inode_id
	shared map[uint64]uint64                 // saved bytes by shmid
	spaces map[uint32]*Process               // the first that has an address space, by vm_id
	nested map[uint32][]uint32               // ids below the container's pid namespace, by id
	pages  PageBytes
	unix   map[uint32]uint32 // id in files.img by the ino of a unix socket; nil: not looked up yet
}

// Summarize reads everything but the contents of memory.
func Summarize(r *Reader) (*Summary, error) {
	s := &summarizer{r: r, files: map[uint32]*fdinfo.FileEntry{}, memfds: map[uint32]*memfd.MemfdInodeEntry{}, shared: map[uint64]uint64{},
		spaces: map[uint32]*Process{}, nested: map[uint32][]uint32{}}
	for _, row := range r.Manifest().GetTable() {
		s.nested[row.GetId()] = row.GetNested()
	}
	err := cmp.Or(
		Each(r, Files, "", func(m *fdinfo.FileEntry, _ func(int) ([]byte, error)) error {
			s.files[m.GetId()] = m
			return nil
		}),
		Each(r, MemfdInode, "", func(m *memfd.MemfdInodeEntry, _ func(int) ([]byte, error)) error {
			s.memfds[uint32(m.GetInodeId())] = m
			return nil
		}),
	)
	if err != nil {
		return nil, err
	}
	out, err := s.head()
	if err != nil {
		return nil, err
	}
	err = Each(r, PSTree, "", func(e *pstree.PstreeEntry, _ func(int) ([]byte, error)) error {
		p, err := s.process(e)
		if err == nil {
			out.Processes = append(out.Processes, *p)
			out.Memory.add(p.Memory)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	out.Sockets, out.Pages = s.sockets(out.Processes), s.pages
	return out, s.hostName(out)
}

func (s *summarizer) head() (*Summary, error) {
	out := &Summary{MadeBy: "criu", Size: s.r.Size(), Processes: []Process{}, Sockets: []Socket{}}
	m := s.r.Manifest()
	if m == nil {
		_, err := One[*inventory.InventoryEntry](s.r, Inventory, "")
		return out, err
	}
	out.MadeBy, out.Name, out.Command, out.Format = "ckpt", m.GetName(), m.GetCommand(), m.GetFormat()
	out.Kernel, out.Arch, out.OwnNetwork = m.GetMachine().GetKernel(), m.GetMachine().GetArch(), m.GetNetNone()
	out.CPU, out.Parent = m.GetMachine().GetCpuModel(), m.GetParent().GetPath()
	for name := range s.r.sizes {
		plain, sealed := strings.CutSuffix(name, aged)
		out.Encrypted = out.Encrypted || sealed
		out.Compressed = out.Compressed || strings.HasSuffix(plain, zst)
	}
	created := time.Unix(0, m.GetCreated()).UTC()
	out.Created = &created
	return out, nil
}

func (s *summarizer) process(e *pstree.PstreeEntry) (*Process, error) {
	id := strconv.FormatUint(uint64(e.GetPid()), 10)
	p := &Process{VPID: e.GetPid(), VPPID: e.GetPpid(), VPGID: e.GetPgid(), VSID: e.GetSid(), Files: []File{}, Threads: []TaskThread{},
		Timers: []Timer{}, Pending: []uint32{}}
	core, err := One[*criu_core.CoreEntry](s.r, Core, id)
	if err != nil {
		return nil, err
	}
	tc, creds := core.GetTc(), core.GetThreadCore().GetCreds()
	p.Comm, p.State = tc.GetComm(), stateText(tc.GetTaskState())
	p.UID, p.GID = creds.GetEuid(), creds.GetEgid()
	p.Timers, p.Nested = append(p.Timers, timersOf(tc.GetTimers())...), s.nested[e.GetPid()]
	p.Pending = pendingOf(p.Pending, tc.GetSignalsS())
	if err := s.threads(p, e); err != nil {
		return nil, err
	}
	if p.State == "zombie" {
		status := tc.GetExitCode()
		p.Status = &status
		return p, nil
	}
	ids := core.GetIds() // old images of criu's have no other
	if s.r.Has(IDs, id) {
		if ids, err = One[*criu_core.TaskKobjIdsEntry](s.r, IDs, id); err != nil {
			return nil, err
		}
	}
	if err := s.descriptors(p, ids); err != nil {
		return nil, err
	}
	if s.r.Has(FS, id) {
		f, err := One[*fs.FsEntry](s.r, FS, id)
		if err != nil {
			return nil, err
		}
		p.Cwd, p.Root, p.Umask = s.pathOf(f.GetCwdId()), s.pathOf(f.GetRootId()), f.GetUmask()
	}
	if !s.r.Has(MM, id) {
		return p, nil
	}
	m, err := One[*mm.MmEntry](s.r, MM, id)
	if err != nil {
		return nil, err
	}
	p.Exe = s.pathOf(m.GetExeFileId())
	if first := s.spaces[ids.GetVmId()]; first != nil {
		p.SharesMemory, p.Memory, p.Command = first.VPID, first.Memory, first.Command
		return p, nil
	}
	s.spaces[ids.GetVmId()] = p
	return p, s.memory(p, id, m)
}

func (s *summarizer) threads(p *Process, e *pstree.PstreeEntry) error {
	for _, tid := range Threads(e) {
		core, err := One[*criu_core.CoreEntry](s.r, Core, Core.ID(uint64(tid)))
		if err != nil {
			return err
		}
		p.Pending = pendingOf(p.Pending, core.GetThreadCore().GetSignalsP())
		p.Threads = append(p.Threads, TaskThread{VTID: tid, Comm: cmp.Or(core.GetThreadCore().GetComm(), p.Comm)})
	}
	return nil
}

// pendingOf adds the signals of a queue, each once.
func pendingOf(all []uint32, q *siginfo.SignalQueueEntry) []uint32 {
	for _, e := range q.GetSignals() {
		if b := e.GetSiginfo(); len(b) >= 4 {
			all = append(all, binary.LittleEndian.Uint32(b))
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// hostName adds that of the container's own namespace: in an image of criu's, that
// of the root process.
func (s *summarizer) hostName(out *Summary) error {
	id := uint64(NamespaceID)
	if out.MadeBy == "criu" {
		inv, err := One[*inventory.InventoryEntry](s.r, Inventory, "")
		if err != nil {
			return err
		}
		id = uint64(inv.GetRootIds().GetUtsNsId())
		if len(out.Processes) > 0 && s.r.Has(IDs, u64(out.Processes[0].VPID)) {
			ids, err := One[*criu_core.TaskKobjIdsEntry](s.r, IDs, u64(out.Processes[0].VPID))
			if err != nil {
				return err
			}
			id = uint64(ids.GetUtsNsId())
		}
	}
	return Each(s.r, UTSNS, UTSNS.ID(id), func(m *utsns.UtsnsEntry, _ func(int) ([]byte, error)) error {
		out.HostName = m.GetNodename()
		return nil
	})
}

func u64(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

// descriptors reads the table that ids names.
func (s *summarizer) descriptors(p *Process, ids *criu_core.TaskKobjIdsEntry) error {
	table := FDInfo.ID(uint64(ids.GetFilesId()))
	err := Each(s.r, FDInfo, table, func(m *fdinfo.FdinfoEntry, _ func(int) ([]byte, error)) error {
		typ, what := s.describe(m)
		f := File{FD: m.GetFd(), ID: m.GetId(), Type: typ, What: what, CloseOnExec: m.GetFlags()&unix.FD_CLOEXEC != 0}
		if reg := s.files[m.GetId()].GetReg(); reg != nil && typ == "file" {
			pos := reg.GetPos()
			f.Pos = &pos
		}
		p.Files = append(p.Files, f)
		return nil
	})
	slices.SortFunc(p.Files, func(a, b File) int { return cmp.Compare(a.FD, b.FD) })
	return err
}

func (s *summarizer) pathOf(id uint32) string { return s.files[id].GetReg().GetName() }

// States of a task (CRIU's image.h).
func stateText(n uint32) string {
	switch n {
	case 1:
		return "running"
	case 2, 6:
		return "zombie"
	case 3:
		return "stopped"
	}
	return "state " + strconv.FormatUint(uint64(n), 10)
}

func timersOf(t *timer.TaskTimersEntry) []Timer {
	var out []Timer
	for _, it := range []struct {
		name string
		e    *timer.ItimerEntry
	}{{"real", t.GetReal()}, {"virtual", t.GetVirt()}, {"prof", t.GetProf()}} {
		left, every := duration(it.e.GetVsec(), it.e.GetVusec()*1000), duration(it.e.GetIsec(), it.e.GetIusec()*1000)
		if left != 0 || every != 0 {
			out = append(out, Timer{Type: it.name, Left: left, Interval: every})
		}
	}
	for _, e := range t.GetPosix() {
		id := e.GetItId()
		out = append(out, Timer{Type: "posix", ID: &id, Signal: e.GetSiSigno(),
			Left: duration(e.GetVsec(), e.GetVnsec()), Interval: duration(e.GetIsec(), e.GetInsec())})
	}
	return out
}

func duration(sec, nsec uint64) time.Duration {
	return time.Duration(sec)*time.Second + time.Duration(nsec)
}

func isSocket(typ string) bool {
	switch typ {
	case "tcp", "udp", "udplite", "icmp", "raw", "inet", "unix", "netlink", "packet":
		return true
	}
	return false
}

func (s *summarizer) sockets(procs []Process) []Socket {
	out := []Socket{}
	at := map[uint32]int{}
	for _, p := range procs {
		for _, f := range p.Files {
			if !isSocket(f.Type) {
				continue
			}
			i, ok := at[f.ID]
			if !ok {
				i = len(out)
				at[f.ID] = i
				so := Socket{ID: f.ID, Type: f.Type, What: f.What}
				so.State, so.Local, so.Remote = s.ends(s.files[f.ID])
				out = append(out, so)
			}
			if !slices.Contains(out[i].VPIDs, p.VPID) {
				out[i].VPIDs = append(out[i].VPIDs, p.VPID)
			}
		}
	}
	return out
}

// argsOf splits the argument area of a process.
func argsOf(b []byte) []string {
	if len(b) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
}
