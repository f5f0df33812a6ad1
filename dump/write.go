package dump

import (
	"strconv"
	"time"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/inventory"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/pstree"
	"google.golang.org/protobuf/proto"

	"ckpt/image"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/tracee"
)

// States of a task in task_core_entry (CRIU's enum).
const (
	taskAlive   = 1
	taskDead    = 2
	taskStopped = 3
)

// lockSkip is CRIU's NETWORK_LOCK_SKIP: its restore is not to lift what ckpt has not
// laid, for which it would call iptables.
const lockSkip = 2

// write writes what the kinds have filled in: the tree and one set of files a
// process.
func (s *session) write() error {
	if err := s.out.Add(image.Inventory, "", &inventory.InventoryEntry{
		ImgVersion: proto.Uint32(2), FdinfoPerId: proto.Bool(true), NsPerId: proto.Bool(true),
		RootIds: s.surroundings(), NetworkLockMethod: proto.Uint32(lockSkip),
	}); err != nil {
		return err
	}
	for _, p := range s.d.Procs {
		if err := s.writeProc(p); err != nil {
			return s.fail(p, "write its image", err)
		}
	}
	return nil
}

func (s *session) writeProc(p *kind.Proc) error {
	e := &pstree.PstreeEntry{Pid: vpid(p.VPID), Ppid: proto.Uint32(0), Pgid: vpid(p.PGID), Sid: vpid(p.SID)}
	if p.Parent != nil {
		e.Ppid = vpid(p.Parent.VPID)
	}
	for _, t := range p.Threads {
		e.Threads = append(e.Threads, uint32(t.VTID))
		p.Extra.Threads = append(p.Extra.Threads, t.Extra)
	}
	p.TC.Comm = proto.String(p.Comm)
	p.TC.ExitCode = proto.Uint32(uint32(p.Stat.ExitCode))
	p.TC.TaskState = proto.Uint32(taskAlive)
	if p.StopSignal != 0 {
		p.TC.TaskState, p.TC.StopSigno = proto.Uint32(taskStopped), proto.Uint32(uint32(p.StopSignal))
	}
	p.Extra.ExitSignal = uint32(p.Stat.ExitSignal)
	if cmdline, err := p.FS.Cmdline(); err == nil {
		p.Extra.Cmdline = cmdline
	}
	if p.Zombie {
		p.TC.TaskState = proto.Uint32(taskDead)
		fillRequired(p.TC)
	}
	id := strconv.Itoa(int(p.VPID))
	if err := s.out.Add(image.PSTree, "", e); err != nil {
		return err
	}
	for _, t := range p.Threads {
		t.Core.Mtype = tracee.Machine.Enum()
		if t.VTID == p.VPID {
			t.Core.Tc = p.TC
		}
		if err := s.out.Add(image.Core, strconv.Itoa(int(t.VTID)), t.Core); err != nil {
			return err
		}
	}
	if err := s.out.Add(image.TaskExtra, id, p.Extra); err != nil || p.Zombie {
		return err
	}
	if err := s.out.Add(image.IDs, id, allIDs(p.IDs)); err != nil {
		return err
	}
	if err := s.out.Add(image.MM, id, p.MM); err != nil {
		return err
	}
	if err := s.out.Add(image.FS, id, p.FSE); err != nil {
		return err
	}
	return s.writeFdinfo(p)
}

// fillRequired gives the core of a zombie the fields that the message
// requires and a zombie has not.
func fillRequired(tc *criu_core.TaskCoreEntry) {
	tc.Personality, tc.Flags, tc.BlkSigset = proto.Uint32(0), proto.Uint32(0), proto.Uint64(0)
}

// surroundings are the namespaces that CRIU is to find around it when it
// restores: another number (0) for those that it has to make, from what the
// image says of them. The network and the mounts it has to find; and a pid
// namespace, too, where its first process is not in the image: CRIU needs it.
func (s *session) surroundings() *criu_core.TaskKobjIdsEntry {
	ids := ownIDs()
	none := proto.Uint32(0)
	ids.TimeNsId = none // the clocks go on
	if s.src.Adopted {
		return ids
	}
	ids.UtsNsId, ids.IpcNsId = none, none
	if s.src.NoInit {
		ids.PidNsId = none
	}
	return ids
}

// ownIDs are the container's own namespaces.
func ownIDs() *criu_core.TaskKobjIdsEntry {
	ids := &criu_core.TaskKobjIdsEntry{VmId: proto.Uint32(0), FilesId: proto.Uint32(0), FsId: proto.Uint32(0), SighandId: proto.Uint32(0)}
	for _, f := range []**uint32{&ids.PidNsId, &ids.NetNsId, &ids.IpcNsId, &ids.UtsNsId, &ids.MntNsId, &ids.UserNsId, &ids.CgroupNsId, &ids.TimeNsId} {
		*f = proto.Uint32(image.NamespaceID)
	}
	return ids
}

// allIDs completes the ids of a process's namespaces by those that it shares
// with the container.
func allIDs(ids *criu_core.TaskKobjIdsEntry) *criu_core.TaskKobjIdsEntry {
	all := ownIDs()
	proto.Merge(all, ids)
	return all
}

func vpid(v pidns.VPID) *uint32 { return proto.Uint32(uint32(v)) }

// manifest is what ckpt.img says.
func (s *session) manifest() (*image.Manifest, error) {
	here, err := machine()
	if err != nil {
		return nil, err
	}
	m := &image.Manifest{
		Name: s.src.Name, Command: s.src.Command, Created: time.Now().UnixNano(), MainVpid: uint32(s.src.MainVPID),
		NoInit: s.src.NoInit, NetNone: s.src.OwnNet, Key: s.src.Key, Schedule: s.src.Schedule, LastPid: uint32(s.counters.last), PidMax: uint32(s.counters.max), LogFiles: s.logFiles, Memory: s.bytes,
		Machine: here, Table: s.table.Identities(s.src.NoInit), Held: s.d.Held.List(), FileMounts: map[uint32]uint32{},
		UserNamespaces: s.users.list,
	}
	for _, d := range s.files {
		if at := s.mountSpace(d); at != nil {
			m.FileMounts[d.ID] = at.id
		}
	}
	return m, nil
}
