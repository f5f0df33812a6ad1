package image

import (
	"bytes"
	"errors"
	"hash/crc32"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/file-lock"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/fs"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/ghost-file"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/inventory"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/ipc-msg"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/ipc-sem"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/ipc-shm"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/ipc-var"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/memfd"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/mm"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/pagemap"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/pipe-data"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/pstree"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/remap-file-path"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/seccomp"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/sk-packet"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/tcp-stream"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/timens"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/tty"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/utsns"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
)

// fuzzed is every format that is read, with its message and how many bytes
// stand behind an entry.
type fuzzed struct {
	f    Format
	m    proto.Message
	data func(proto.Message) int64
}

func allFormats() []fuzzed {
	none := func(proto.Message) int64 { return 0 }
	return []fuzzed{
		{Inventory, &inventory.InventoryEntry{}, none},
		{PSTree, &pstree.PstreeEntry{}, none},
		{Core, &criu_core.CoreEntry{}, none},
		{IDs, &criu_core.TaskKobjIdsEntry{}, none},
		{MM, &mm.MmEntry{}, none},
		{FS, &fs.FsEntry{}, none},
		{FDInfo, &fdinfo.FdinfoEntry{}, none},
		{Files, &fdinfo.FileEntry{}, none},
		{PipesData, &pipe_data.PipeDataEntry{}, func(m proto.Message) int64 { return int64(m.(*pipe_data.PipeDataEntry).GetBytes()) }},
		{SkQueues, &sk_packet.SkPacketEntry{}, func(m proto.Message) int64 { return int64(m.(*sk_packet.SkPacketEntry).GetLength()) }},
		{TCPStream, &tcp_stream.TcpStreamEntry{}, func(m proto.Message) int64 { return int64(m.(*tcp_stream.TcpStreamEntry).GetInqLen()) }},
		{Seccomp, &seccomp.SeccompEntry{}, none},
		{UTSNS, &utsns.UtsnsEntry{}, none},
		{TimeNS, &timens.TimensEntry{}, none},
		{IPCVar, &ipc_var.IpcVarEntry{}, none},
		{IPCShm, &ipc_shm.IpcShmEntry{}, func(m proto.Message) int64 { return int64(m.(*ipc_shm.IpcShmEntry).GetSize()) }},
		{IPCMsg, &ipc_msg.IpcMsgEntry{}, none},
		{IPCSem, &ipc_sem.IpcSemEntry{}, func(m proto.Message) int64 { return 2 * int64(m.(*ipc_sem.IpcSemEntry).GetNsems()) }},
		{GhostFile, &ghost_file.GhostFileEntry{}, none},
		{RemapFpath, &remap_file_path.RemapFilePathEntry{}, none},
		{TTYInfo, &tty.TtyInfoEntry{}, none},
		{MemfdInode, &memfd.MemfdInodeEntry{}, none},
		{FileLocks, &file_lock.FileLockEntry{}, none},
		{Pagemap, &pagemap.PagemapEntry{}, none},
		{manifestFormat, &Manifest{}, none},
		{TaskExtra, &Task{}, none},
		{MountsExtra, &Mount{}, none},
		{SysVExtra, &SysVPids{}, none},
		{FilesExtra, &FileExtra{}, none},
	}
}

// FuzzRead reads arbitrary bytes as each format: never a panic, and every
// error but the end says that the image is damaged.
func FuzzRead(f *testing.F) {
	for i, x := range allFormats() {
		b := x.f.header()
		f.Add(byte(i), bytes.Clone(b))
		f.Add(byte(i), append(bytes.Clone(b), 0xff, 0xff, 0xff, 0x7f, 1))
		m := proto.Clone(x.m)
		fillRequired(m.ProtoReflect())
		b, err := AppendEntry(b, m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(byte(i), bytes.Clone(b))
		f.Add(byte(i), bytes.Clone(b[:len(b)-len(b)/3]))
		b, err = AppendEntry(b, m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(byte(i), b)
	}
	all := allFormats()
	f.Fuzz(func(t *testing.T, which byte, b []byte) {
		x := all[int(which)%len(all)]
		if err := readAll(x, b); err != nil && !errors.Is(err, failure.ErrDamaged) {
			t.Fatalf("%v", err)
		}
	})
}

func readAll(x fuzzed, b []byte) error {
	open := func() (*Decoder, error) {
		d := newDecoder(x.f.Name("1"), bytes.NewReader(b), int64(len(b)), nil)
		return d, d.header(x.f)
	}
	d, err := open()
	if err != nil {
		return err
	}
	if x.f == Pagemap {
		if err := d.Next(&pagemap.PagemapHead{}); err != nil {
			return d.unlessEnd(err)
		}
		_, _, err := readSpans(d, len(b)%2 == 0)
		return err
	}
	for {
		m := proto.Clone(x.m)
		if err := d.Next(m); err != nil {
			return d.unlessEnd(err)
		}
		n := x.data(m)
		if n > maxData {
			r, err := d.Stream(n)
			if err == nil {
				_, err = io.Copy(io.Discard, r)
			}
			return err
		}
		if _, err := d.Data(int(n)); err != nil {
			return err
		}
	}
}

func TestSeedsDecode(t *testing.T) {
	for _, x := range allFormats() {
		m := proto.Clone(x.m)
		fillRequired(m.ProtoReflect())
		b, err := AppendEntry(x.f.header(), m)
		check(t, err)
		if x.f == Pagemap {
			b, err = AppendEntry(x.f.header(), &pagemap.PagemapHead{PagesId: proto.Uint32(1)})
			check(t, err)
		}
		if err := readAll(x, append(b, make([]byte, x.data(m))...)); err != nil {
			t.Errorf("%s: %v", x.f.Prefix, err)
		}
	}
}

func TestDecoderRefusesClaims(t *testing.T) {
	head := UTSNS.header()
	for _, tt := range []struct {
		name string
		b    []byte
		want string
	}{
		{"empty", nil, "utsns-1.img is damaged at 0 bytes (it is cut off)"},
		{"other format", PSTree.header(), `not of format "utsns"`},
		{"service file", le32(le32(nil, magicService), UTSNS.Magic), "service file"},
		{"half a length", append(bytes.Clone(head), 1, 2), "utsns-1.img is damaged at 8 bytes (it is cut off)"},
		{"more than is left", append(bytes.Clone(head), 9, 0, 0, 0, 1), "an entry of 9 bytes is cut off"},
		{"more than can be", append(bytes.Clone(head), 0, 0, 0, 0xf0), "an entry of 4.0 GB"},
		{"no message", append(bytes.Clone(head), 2, 0, 0, 0, 0xff, 0xff), "utsns-1.img is damaged at 8 bytes"},
	} {
		x := fuzzed{UTSNS, &utsns.UtsnsEntry{}, func(proto.Message) int64 { return 0 }}
		if err := readAll(x, tt.b); !errors.Is(err, failure.ErrDamaged) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestStreamChecksSums(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "img")
	w := create(t, dir)
	want := bytes.Repeat([]byte("ghost "), 2<<20)
	f, err := w.Raw(GhostFile, "1a", &ghost_file.GhostFileEntry{Uid: proto.Uint32(1), Gid: proto.Uint32(2), Mode: proto.Uint32(0o100644)})
	check(t, err)
	_, err = f.Write(want)
	check(t, err)
	check(t, f.Close())
	check(t, w.Commit(&Manifest{}))
	read := func() ([]byte, error) {
		d, err := open(t, dir).Decode(GhostFile, "1a")
		check(t, err)
		defer d.Close()
		check(t, d.Next(&ghost_file.GhostFileEntry{}))
		r, err := d.Stream(d.Rest())
		check(t, err)
		return io.ReadAll(r)
	}
	got, err := read()
	check(t, err)
	if !bytes.Equal(got, want) {
		t.Error("contents differ")
	}
	flip(t, filepath.Join(dir, "ghost-file-1a.img"), 9<<20)
	got, err = read()
	if !errors.Is(err, failure.ErrDamaged) || len(got) >= 9<<20 {
		t.Errorf("%d bytes of a damaged file, error %v", len(got), err)
	}
}

func TestSummerAgreesWithReading(t *testing.T) {
	for _, n := range []int{0, 1, chunk - 1, chunk, chunk + 1, 2*chunk + 17} {
		b := bytes.Repeat([]byte{7, 1, 3}, n/3+1)[:n]
		var s summer
		for rest := b; len(rest) > 0; {
			k := min(len(rest), 1_000_003)
			s.add(rest[:k])
			rest = rest[k:]
		}
		if len(s.of("x").Crc32C) != chunks(uint64(n)) || s.size != uint64(n) {
			t.Errorf("%d bytes: %d sums of %d bytes", n, len(s.of("x").Crc32C), s.size)
		}
		for i, sum := range s.of("x").Crc32C {
			if want := crc32.Checksum(b[i*chunk:min(n, (i+1)*chunk)], castagnoli); sum != want {
				t.Errorf("%d bytes, chunk %d: %#x, want %#x", n, i, sum, want)
			}
		}
	}
}

func TestHumanBytes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 bytes", 999: "999 bytes", 1000: "1.0 kB", 12_400_000: "12.4 MB", 999_999: "1.0 MB", 1_400_000_000: "1.4 GB"} {
		if got := humanBytes(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
