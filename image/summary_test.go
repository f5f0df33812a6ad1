package image

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/eventfd"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/ext-file"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/fs"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/inventory"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/mm"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/pstree"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/regfile"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/siginfo"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/sk-inet"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/sk-unix"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/timer"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/utsns"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/vma"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

// made gives m's required fields a value where it has none.
func made[M proto.Message](m M) M {
	fillRequired(m.ProtoReflect())
	return m
}

// family is an image of a process of two threads, and a zombie of its.
func family(t *testing.T, dir string) {
	t.Helper()
	w := create(t, dir)
	add := func(f Format, id string, m proto.Message) { t.Helper(); check(t, w.Add(f, id, m)) }
	u32, u64, str := proto.Uint32, proto.Uint64, proto.String
	add(Inventory, "", &inventory.InventoryEntry{ImgVersion: u32(2)})
	add(PSTree, "", &pstree.PstreeEntry{Pid: u32(2), Ppid: u32(0), Pgid: u32(2), Sid: u32(2), Threads: []uint32{2, 3}})
	add(PSTree, "", &pstree.PstreeEntry{Pid: u32(4), Ppid: u32(2), Pgid: u32(2), Sid: u32(2), Threads: []uint32{4}})
	itimer := func(v uint64) *timer.ItimerEntry {
		return &timer.ItimerEntry{Isec: u64(0), Iusec: u64(0), Vsec: u64(v), Vusec: u64(v * 500)}
	}
	signal := func(n byte) *siginfo.SignalQueueEntry {
		return &siginfo.SignalQueueEntry{Signals: []*siginfo.SiginfoEntry{{Siginfo: []byte{n, 0, 0, 0}}, {Siginfo: []byte{n, 0, 0, 0}}}}
	}
	add(UTSNS, "1", &utsns.UtsnsEntry{Nodename: str("box"), Domainname: str("")})
	add(Core, "2", made(&criu_core.CoreEntry{Tc: &criu_core.TaskCoreEntry{Comm: str("job"), TaskState: u32(1), SignalsS: signal(12),
		Timers: &criuTimers{Real: itimer(3), Virt: itimer(0), Prof: itimer(0)}}}))
	add(Core, "3", made(&criu_core.CoreEntry{ThreadCore: &criu_core.ThreadCoreEntry{Comm: str("helper"), SignalsP: signal(10)}}))
	add(Core, "4", made(&criu_core.CoreEntry{Tc: &criu_core.TaskCoreEntry{Comm: str("gone"), TaskState: u32(2), ExitCode: u32(0x100)}}))
	add(IDs, "2", made(&criu_core.TaskKobjIdsEntry{FilesId: u32(9)}))
	add(FS, "2", &fs.FsEntry{CwdId: u32(2), RootId: u32(2), Umask: u32(0o22)})
	for fd, e := range []*fdinfo.FileEntry{
		{Type: fdinfo.FdTypes_REG.Enum(), Id: u32(1), Reg: &regfile.RegFileEntry{Name: str("/bin/job"), Pos: proto.Uint64(70)}},
		{Type: fdinfo.FdTypes_EVENTFD.Enum(), Id: u32(3), Efd: &eventfd.EventfdFileEntry{Counter: u64(7)}},
		{Type: fdinfo.FdTypes_INETSK.Enum(), Id: u32(4), Isk: &sk_inet.InetSkEntry{Proto: u32(6), State: u32(10), SrcPort: u32(80), DstPort: u32(0), SrcAddr: []uint32{0x0100007f}}},
		{Type: fdinfo.FdTypes_UNIXSK.Enum(), Id: u32(5), Usk: &sk_unix.UnixSkEntry{Type: u32(1), State: u32(10), Name: []byte("/run/x\x00")}},
		{Type: fdinfo.FdTypes_EXT.Enum(), Id: u32(6), Ext: &ext_file.ExtFileEntry{}, Reg: &regfile.RegFileEntry{Name: str("/orders")}},
		{Type: fdinfo.FdTypes_EXT.Enum(), Id: u32(7), Ext: &ext_file.ExtFileEntry{}},
	} {
		add(Files, "", made(e))
		// A second descriptor of the socket: one socket all the same.
		for _, n := range map[bool][]int{true: {fd, fd + 10}, false: {fd}}[e.GetId() == 4] {
			add(FDInfo, "9", &fdinfo.FdinfoEntry{Id: e.Id, Flags: u32(map[uint32]uint32{3: unix.FD_CLOEXEC}[e.GetId()]), Type: e.Type, Fd: u32(uint32(n))})
		}
	}
	add(Files, "", made(&fdinfo.FileEntry{Type: fdinfo.FdTypes_REG.Enum(), Id: u32(2), Reg: &regfile.RegFileEntry{Name: str("/home/eva")}}))
	add(MM, "2", made(&mm.MmEntry{ExeFileId: u32(1), MmArgStart: u64(0x7000f00), MmArgEnd: u64(0x7000f09), Vmas: []*vma.VmaEntry{
		area(0x10000, 4, vmaPrivate, 1), area(0x20000, 8, vmaHeap, 0), area(0x30000, 2, vmaAnonShm, 5), area(0x7000000, 2, vmaStack, 0), area(0x8000000, 2, vmaVDSO, 0),
	}}))
	p, err := w.Pages("2")
	check(t, err)
	fill(t, p, 0x11000, 1, 1)
	fill(t, p, 0x20000, 3, 1)
	stack := bytes.Repeat([]byte{2}, PageSize)
	copy(stack[0xf00:], "job\x00-fast\x00")
	check(t, p.Write(0x7000000, stack))
	q, err := w.Pages("shmem-5")
	check(t, err)
	fill(t, q, 0, 2, 3)
	check(t, w.Commit(&Manifest{Name: "train", Command: []string{"job", "-fast"}, Created: 1_700_000_000_000_000_000, Machine: &Machine{Kernel: "6.18", Arch: "amd64", CpuModel: "Fast"},
		Table: []*Identity{{Id: 2, Nested: []uint32{1}}}}))
}

type criuTimers = timer.TaskTimersEntry

func area(start, pages uint64, status uint32, shmid uint64) *vma.VmaEntry {
	return made(&vma.VmaEntry{Start: proto.Uint64(start), End: proto.Uint64(start + pages*PageSize), Status: proto.Uint32(status | 1), Shmid: proto.Uint64(shmid)})
}

func TestSummary(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "img")
	family(t, dir)
	s, err := Summarize(open(t, dir))
	check(t, err)
	created := time.Unix(1_700_000_000, 0).UTC()
	sum := Memory{
		Heap:        Amount{8 * PageSize, 3 * PageSize},
		Stack:       Amount{2 * PageSize, PageSize},
		FilePrivate: Amount{4 * PageSize, PageSize},
		Shared:      Amount{2 * PageSize, 2 * PageSize},
		Mapped:      16 * PageSize, Saved: 7 * PageSize,
	}
	want := &Summary{
		MadeBy: "ckpt", Name: "train", Command: []string{"job", "-fast"}, Created: &created, Format: Version, Kernel: "6.18", Arch: "amd64", CPU: "Fast", HostName: "box",
		Memory: sum, Pages: PageBytes{Stored: 7 * PageSize},
		Processes: []Process{
			{VPID: 2, VPGID: 2, VSID: 2, Comm: "job", Command: []string{"job", "-fast"}, Exe: "/bin/job", Cwd: "/home/eva", Root: "/home/eva", Umask: 0o22, State: "running", Nested: []uint32{1},
				Threads: []TaskThread{{2, "job"}, {3, "helper"}}, Memory: sum,
				Files: []File{{0, 1, "file", "/bin/job", proto.Uint64(70), false}, {1, 3, "eventfd", "counter 7", nil, true}, {2, 4, "tcp", "127.0.0.1:80 listening", nil, false},
					{3, 5, "unix", "stream /run/x listening", nil, false}, {4, 6, "mqueue", "/orders", nil, false}, {5, 7, "pidfd", "", nil, false}, {12, 4, "tcp", "127.0.0.1:80 listening", nil, false}},
				Timers:  []Timer{{Type: "real", Left: 3*time.Second + 1500*time.Microsecond}},
				Pending: []uint32{10, 12},
			},
			{VPID: 4, VPPID: 2, VPGID: 2, VSID: 2, Comm: "gone", State: "zombie", Status: proto.Uint32(0x100), Threads: []TaskThread{{4, "gone"}}, Files: []File{}, Timers: []Timer{}, Pending: []uint32{}},
		},
		Sockets: []Socket{{4, "tcp", "127.0.0.1:80 listening", "listening", "127.0.0.1:80", "", []uint32{2}},
			{5, "unix", "stream /run/x listening", "listening", "/run/x", "", []uint32{2}}},
	}
	if s.Size <= 7*PageSize {
		t.Errorf("size %d", s.Size)
	}
	want.Size = s.Size
	if d := cmp.Diff(s, want); d != "" {
		t.Error(d)
	}
	b, err := json.Marshal(s)
	check(t, err)
	if !strings.Contains(string(b), `"vpid":2,"vppid":0`) {
		t.Errorf("JSON: %s", b)
	}

	// The same from an image of criu's.
	check(t, os.Remove(filepath.Join(dir, "ckpt.img")))
	s, err = Summarize(open(t, dir))
	check(t, err)
	if s.MadeBy != "criu" || s.Created != nil || len(s.Processes) != 2 || s.Memory.Saved != 7*PageSize {
		t.Errorf("without a manifest: %+v", s)
	}
}

func TestSavedIn(t *testing.T) {
	runs := []Run{{Vaddr: 0x1000, Pages: 4}, {Vaddr: 0x8000, Pages: 2}}
	for _, tt := range []struct{ start, end, pages uint64 }{
		{0, 0x10000, 6}, {0x2000, 0x4000, 2}, {0x4000, 0x9000, 2}, {0x5000, 0x8000, 0}, {0x9000, 0x9000, 0}, {0xa000, 0xb000, 0},
	} {
		if got := savedIn(runs, tt.start, tt.end); got != tt.pages*PageSize {
			t.Errorf("%#x-%#x: %d bytes, want %d pages", tt.start, tt.end, got, tt.pages)
		}
	}
}

func TestSocketsAreDescribed(t *testing.T) {
	u32 := proto.Uint32
	for _, tt := range []struct {
		e    *sk_inet.InetSkEntry
		want string
	}{
		{&sk_inet.InetSkEntry{Proto: u32(6), State: u32(1), SrcPort: u32(1), DstPort: u32(2), SrcAddr: []uint32{0x0100007f}, DstAddr: []uint32{0x0500000a}}, "tcp 127.0.0.1:1 -> 10.0.0.5:2 established"},
		{&sk_inet.InetSkEntry{Proto: u32(17), State: u32(7), SrcPort: u32(53), SrcAddr: []uint32{0, 0, 0, 1 << 24}}, "udp [::1]:53"},
		{&sk_inet.InetSkEntry{Proto: u32(255), Type: u32(unix.SOCK_RAW), SrcAddr: []uint32{1, 2}}, "raw *:0"},
		{&sk_inet.InetSkEntry{Proto: u32(6), State: u32(77), SrcAddr: []uint32{0}}, "tcp 0.0.0.0:0 state 77"},
	} {
		typ, what := inetText(tt.e)
		if got := typ + " " + what; got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
	abstract := &sk_unix.UnixSkEntry{Type: u32(2), State: u32(1), Name: []byte("\x00abc"), Peer: u32(9)}
	outside := &sk_unix.UnixSkEntry{Ino: u32(9), Uflags: u32(UnixOutside), Name: []byte("/dev/log\x00")}
	for _, tt := range []struct {
		peer                       *sk_unix.UnixSkEntry
		want, state, local, remote string
	}{
		{nil, "datagram @abc", "connected", "@abc", ""},
		{&sk_unix.UnixSkEntry{Ino: u32(9)}, "datagram @abc, peer of socket 4", "connected", "@abc", "socket 4"},
		{outside, "datagram @abc, connected to /dev/log, outside", "connected", "@abc", "/dev/log"},
	} {
		s := &summarizer{files: map[uint32]*fdinfo.FileEntry{3: {Usk: abstract}, 4: {Usk: tt.peer}}}
		state, local, remote := s.ends(s.files[3])
		if got := s.unixText(abstract); got != tt.want || state != tt.state || local != tt.local || remote != tt.remote {
			t.Errorf("%q, %s from %q to %q, want %+v", got, state, local, remote, tt)
		}
	}
	s := &summarizer{}
	if state, local, remote := s.ends(&fdinfo.FileEntry{Isk: &sk_inet.InetSkEntry{Proto: u32(6), State: u32(1), SrcPort: u32(1), DstPort: u32(2), SrcAddr: []uint32{0x0100007f}, DstAddr: []uint32{0x0500000a}}}); state != "established" || local != "127.0.0.1:1" || remote != "10.0.0.5:2" {
		t.Errorf("%s from %s to %s", state, local, remote)
	}
}
