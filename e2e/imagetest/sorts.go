package imagetest

import (
	"math"
	"strings"

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

	"ckpt/image"
)

// sort is one format: what its entries are.
type sort struct {
	prefix string
	first  proto.Message
	rest   proto.Message // of all entries but the first, if they differ
	// turns are messages of rest that follow one of first; nil: there are none.
	turns func(first proto.Message) int
	bytes func(m proto.Message) int // of data behind an entry; nil: none
}

var sorts = []sort{
	{prefix: "ckpt", first: &image.Manifest{}, rest: &image.Seal{}},
	{prefix: "inventory", first: &inventory.InventoryEntry{}},
	{prefix: "pstree", first: &pstree.PstreeEntry{}},
	{prefix: "core", first: &criu_core.CoreEntry{}},
	{prefix: "ids", first: &criu_core.TaskKobjIdsEntry{}},
	{prefix: "mm", first: &mm.MmEntry{}},
	{prefix: "fs", first: &fs.FsEntry{}},
	{prefix: "fdinfo", first: &fdinfo.FdinfoEntry{}},
	{prefix: "files", first: &fdinfo.FileEntry{}},
	{prefix: "pagemap", first: &pagemap.PagemapHead{}, rest: &pagemap.PagemapEntry{}},
	{prefix: "pipes-data", first: &pipe_data.PipeDataEntry{}, bytes: pipeBytes},
	{prefix: "fifo-data", first: &pipe_data.PipeDataEntry{}, bytes: pipeBytes},
	{prefix: "sk-queues", first: &sk_packet.SkPacketEntry{}, bytes: func(m proto.Message) int { return int(m.(*sk_packet.SkPacketEntry).GetLength()) }},
	{prefix: "tcp-stream", first: &tcp_stream.TcpStreamEntry{}, bytes: func(proto.Message) int { return math.MaxInt }},
	{prefix: "seccomp", first: &seccomp.SeccompEntry{}},
	{prefix: "utsns", first: &utsns.UtsnsEntry{}},
	{prefix: "timens", first: &timens.TimensEntry{}},
	{prefix: "ipcns-var", first: &ipc_var.IpcVarEntry{}},
	{prefix: "ipcns-shm", first: &ipc_shm.IpcShmEntry{}},
	{prefix: "ipcns-msg", first: &ipc_msg.IpcMsgEntry{}, rest: &ipc_msg.IpcMsg{},
		turns: func(m proto.Message) int { return int(m.(*ipc_msg.IpcMsgEntry).GetQnum()) },
		bytes: func(m proto.Message) int {
			if m, ok := m.(*ipc_msg.IpcMsg); ok {
				return int(m.GetMsize()+7) &^ 7
			}
			return 0
		}},
	{prefix: "ipcns-sem", first: &ipc_sem.IpcSemEntry{}, bytes: func(m proto.Message) int { return int(2*m.(*ipc_sem.IpcSemEntry).GetNsems()+7) &^ 7 }},
	{prefix: "ghost-file", first: &ghost_file.GhostFileEntry{}, rest: &ghost_file.GhostChunkEntry{}, bytes: func(m proto.Message) int {
		switch m := m.(type) {
		case *ghost_file.GhostFileEntry:
			if !m.GetChunks() {
				return math.MaxInt
			}
		case *ghost_file.GhostChunkEntry:
			return int(m.GetLen())
		}
		return 0
	}},
	{prefix: "remap-fpath", first: &remap_file_path.RemapFilePathEntry{}},
	{prefix: "tty-info", first: &tty.TtyInfoEntry{}},
	{prefix: "tty-data", first: &tty.TtyDataEntry{}},
	{prefix: "memfd", first: &memfd.MemfdInodeEntry{}},
	{prefix: "filelocks", first: &file_lock.FileLockEntry{}},
	{prefix: "ckpt-task", first: &image.Task{}},
	{prefix: "ckpt-files", first: &image.FileExtra{}},
	{prefix: "ckpt-mounts", first: &image.Mount{}},
	{prefix: "ckpt-mqueues", first: &image.MessageQueue{}, rest: &image.QueuedMessage{},
		turns: func(m proto.Message) int { return int(m.(*image.MessageQueue).Messages) }},
	{prefix: "ckpt-sysv", first: &image.SysVPids{}},
}

func pipeBytes(m proto.Message) int { return int(m.(*pipe_data.PipeDataEntry).GetBytes()) }

// sortOf finds the format of a file: the longest prefix of its name.
func sortOf(name string) (found sort, ok bool) {
	name, ok = strings.CutSuffix(name, ".img")
	if !ok {
		return sort{}, false
	}
	for _, s := range sorts {
		if (name == s.prefix || strings.HasPrefix(name, s.prefix+"-")) && len(s.prefix) > len(found.prefix) {
			found = s
		}
	}
	return found, found.prefix != ""
}

// next is an empty message of what follows the entries read so far.
func (s sort) next(before []Entry) proto.Message {
	m := s.first
	switch {
	case s.turns != nil:
		left := 0
		for _, e := range before {
			if left > 0 {
				left--
			} else {
				left = s.turns(e.Message)
			}
		}
		if left > 0 {
			m = s.rest
		}
	case s.rest != nil && len(before) > 0:
		m = s.rest
	}
	return m.ProtoReflect().New().Interface()
}

func (s sort) data(m proto.Message) int {
	if s.bytes == nil {
		return 0
	}
	return s.bytes(m)
}
