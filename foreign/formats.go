package foreign

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/cgroup"
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
	"ckpt/image"
)

// format is one that is understood.
type format struct {
	image.Format
	first proto.Message // of its entries; nil: like the others
	entry proto.Message // nil: there are none but the first, data stand behind it
	// within are entries that stand behind one of the others, as many as it says.
	within proto.Message
	// data is how many bytes stand behind an entry; nil: none.
	data func(proto.Message) int64
}

// formats are all that are understood. pages-N.img has neither magic nor
// entries and is none.
var formats = []format{
	{Format: image.Inventory, entry: &inventory.InventoryEntry{}},
	{Format: image.PSTree, entry: &pstree.PstreeEntry{}},
	{Format: image.Core, entry: &criu_core.CoreEntry{}},
	{Format: image.IDs, entry: &criu_core.TaskKobjIdsEntry{}},
	{Format: image.MM, entry: &mm.MmEntry{}},
	{Format: image.FS, entry: &fs.FsEntry{}},
	{Format: image.FDInfo, entry: &fdinfo.FdinfoEntry{}},
	{Format: image.Files, entry: &fdinfo.FileEntry{}},
	{Format: image.Pagemap, first: &pagemap.PagemapHead{}, entry: &pagemap.PagemapEntry{}},
	{Format: image.TimeNS, entry: &timens.TimensEntry{}},
	{Format: image.Seccomp, entry: &seccomp.SeccompEntry{}},
	{Format: image.RemapFpath, entry: &remap_file_path.RemapFilePathEntry{}},
	{Format: image.FileLocks, entry: &file_lock.FileLockEntry{}},
	{Format: image.MemfdInode, entry: &memfd.MemfdInodeEntry{}},
	{Format: image.PipesData, entry: &pipe_data.PipeDataEntry{}, data: pipeData},
	{Format: image.FifoData, entry: &pipe_data.PipeDataEntry{}, data: pipeData},
	{Format: image.SkQueues, entry: &sk_packet.SkPacketEntry{}, data: func(m proto.Message) int64 { return int64(m.(*sk_packet.SkPacketEntry).GetLength()) }},
	{Format: image.TCPStream, first: &tcp_stream.TcpStreamEntry{}},
	{Format: image.UTSNS, entry: &utsns.UtsnsEntry{}},
	{Format: image.IPCVar, entry: &ipc_var.IpcVarEntry{}},
	{Format: image.IPCShm, entry: &ipc_shm.IpcShmEntry{}, data: segmentData},
	{Format: image.IPCSem, entry: &ipc_sem.IpcSemEntry{}, data: func(m proto.Message) int64 { return padded(2 * int64(m.(*ipc_sem.IpcSemEntry).GetNsems())) }},
	{Format: image.IPCMsg, entry: &ipc_msg.IpcMsgEntry{}, within: &ipc_msg.IpcMsg{}, data: messageData},
	{Format: image.TTYInfo, entry: &tty.TtyInfoEntry{}},
	{Format: image.TTYData, entry: &tty.TtyDataEntry{}},
	{Format: image.CGroup, entry: &cgroup.CgroupEntry{}},
	{Format: image.GhostFile, first: &ghost_file.GhostFileEntry{}}, // then its contents, or chunks of them
}

func segmentData(m proto.Message) int64 {
	if e := m.(*ipc_shm.IpcShmEntry); !e.GetInPagemaps() {
		return int64(min(e.GetSize(), 1<<62)) // as before CRIU 3.0
	}
	return 0
}

func messageData(m proto.Message) int64 {
	if e, ok := m.(*ipc_msg.IpcMsg); ok {
		return padded(int64(e.GetMsize()))
	}
	return 0
}

// padded is the room that n bytes of an object of System V take, in bytes.
func padded(n int64) int64 { return (n + 7) &^ 7 }

func pipeData(m proto.Message) int64 { return int64(m.(*pipe_data.PipeDataEntry).GetBytes()) }

// without are formats whose contents are not carried, what they are of, and what
// to do about it.
var without = []struct {
	prefixes   []string
	what, hint string
}{
	{[]string{"netns", "netdev", "ifaddr", "route", "route6", "rule", "iptables", "ip6tables", "nftables"}, "a network namespace", "dump a program that is on the host's network"},
	{[]string{"mountpoints", "tmpfs-dev", "tmpfs", "binfmt-misc-dev", "autofs"}, "a mount namespace", "dump a program that sees the host's mounts"},
	{[]string{"userns"}, "a user namespace", "dump a program that is in criu's own"},
	{[]string{"bpfmap-data", "bpfmap-file"}, "a BPF map", "let the program close it before the dump"},
	{[]string{"tunfile"}, "a TUN device", "let the program close it before the dump"},
	{[]string{"apparmor"}, "profiles of AppArmor", "dump the program unconfined"},
	{[]string{"cpuinfo"}, "what the processor has to have (--cpu-cap)", "dump without --cpu-cap"},
}

// known refuses the files of an image that are of no format that is
// understood, and what is not understood within those that are. What many files
// are of is told once.
func known(r *image.Reader) error {
	var errs []error
	told := map[string]bool{}
	for _, name := range r.Names() {
		if strings.HasPrefix(name, "pages-") {
			continue
		}
		f, id, ok := formatOf(name)
		switch {
		case !ok:
			what, err := unknownFile(name)
			if what == "" || !told[what] {
				errs = append(errs, err)
			}
			told[what] = true
		default:
			if err := f.check(r, id); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// formatOf finds the format of a file by its name: the longest that fits.
func formatOf(name string) (f format, id string, ok bool) {
	base, ok := strings.CutSuffix(name, ".img")
	if !ok {
		return f, "", false
	}
	sorted := slices.SortedFunc(slices.Values(formats), func(a, b format) int { return cmp.Compare(len(b.Prefix), len(a.Prefix)) })
	for _, f := range sorted {
		if base == f.Prefix {
			return f, "", true
		}
		if id, ok := strings.CutPrefix(base, f.Prefix+"-"); ok {
			return f, id, true
		}
	}
	return f, "", false
}

// unknownFile refuses a file, and tells what it is of; "": nobody knows.
func unknownFile(name string) (what string, err error) {
	base := strings.TrimSuffix(name, ".img")
	for _, w := range without {
		if slices.ContainsFunc(w.prefixes, func(p string) bool { return base == p || strings.HasPrefix(base, p+"-") }) {
			return w.what, failure.WithHint(failure.Unsupportedf("%s: the image of criu's holds %s, which is not carried", name, w.what), w.hint)
		}
	}
	return "", notCarried("%s: what criu keeps in this file is not known", name)
}

// check walks all entries of a file.
func (f format) check(r *image.Reader, id string) error {
	d, err := r.Decode(f.Format, id)
	if err != nil || d == nil {
		return err
	}
	defer d.Close()
	name := f.Name(id)
	within := uint32(0) // so many are to come
	for i := 1; ; i++ {
		m := f.message(i, within > 0)
		if m == nil {
			return nil // all the rest is data
		}
		if err := d.Next(m); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if what := unknownIn(m); what != "" {
			return notCarried("%s: entry %d has a field that is not known: %s", name, i, what)
		}
		if q, ok := m.(*ipc_msg.IpcMsgEntry); ok {
			within = q.GetQnum()
		} else if within > 0 {
			within--
		}
		if err := f.skip(d, m, name); err != nil {
			return err
		}
	}
}

// message is an empty one of the sort that entry i is, from 1; nil: there is none.
func (f format) message(i int, within bool) proto.Message {
	m := f.entry
	switch {
	case within:
		m = f.within
	case i == 1 && f.first != nil:
		m = f.first
	}
	if m == nil {
		return nil
	}
	return m.ProtoReflect().New().Interface()
}

func (f format) skip(d *image.Decoder, m proto.Message, name string) error {
	if f.data == nil {
		return nil
	}
	s, err := d.Stream(f.data(m))
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, s); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil
}
