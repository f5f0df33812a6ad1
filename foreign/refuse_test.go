package foreign

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/core-x86"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/inventory"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/mm"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/pstree"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/rseq"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/tty"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
)

// alter changes the first entry of a file that holds entries only.
func alter[M proto.Message](t *testing.T, dir string, f image.Format, id string, change func(M)) {
	t.Helper()
	r, err := image.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	all, err := each[M](r, f, id)
	if err != nil || len(all) == 0 {
		t.Fatalf("%s: %d entries, %v", f.Name(id), len(all), err)
	}
	change(all[0])
	b, err := image.Encode(f, all...)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, f.Name(id)), b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// write makes a file of one entry.
func write[M proto.Message](t *testing.T, dir string, f image.Format, e M) {
	t.Helper()
	b, err := image.Encode(f, e)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, f.Name("")), b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// terminal adds a slave, after change.
func terminal(change func(*tty.TtyInfoEntry)) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		e := &tty.TtyInfoEntry{Id: proto.Uint32(1), Type: tty.TtyType_PTY.Enum(), Locked: proto.Bool(false), Exclusive: proto.Bool(false), PacketMode: proto.Bool(false),
			Sid: proto.Uint32(0), Pgrp: proto.Uint32(0), Rdev: proto.Uint32(0x8803), Pty: &tty.TtyPtyEntry{Index: proto.Uint32(3)}}
		change(e)
		write(t, dir, image.TTYInfo, e)
	}
}

// newer adds a field that the message's type has not.
func newer(m proto.Message, field protowire.Number, value []byte) {
	b := protowire.AppendTag(m.ProtoReflect().GetUnknown(), field, protowire.BytesType)
	m.ProtoReflect().SetUnknown(protowire.AppendBytes(b, value))
}

// What is not carried is refused by what it is.
func TestRefuses(t *testing.T) {
	const first = "10322"
	core := func(change func(*criu_core.CoreEntry)) func(*testing.T, string) {
		return func(t *testing.T, dir string) { alter(t, dir, image.Core, first, change) }
	}
	space := func(change func(*mm.MmEntry)) func(*testing.T, string) {
		return func(t *testing.T, dir string) { alter(t, dir, image.MM, first, change) }
	}
	ids := func(id string, change func(*criu_core.TaskKobjIdsEntry)) func(*testing.T, string) {
		return func(t *testing.T, dir string) { alter(t, dir, image.IDs, id, change) }
	}
	file := func(change func(*fdinfo.FileEntry)) func(*testing.T, string) {
		return func(t *testing.T, dir string) { alter(t, dir, image.Files, "", change) }
	}
	named := func(name string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, name), []byte("something"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		what   string
		change func(t *testing.T, dir string)
		want   string // the error, or how it begins
	}{
		{"a file of no known format", named("wonder-7.img"), "wonder-7.img: what criu keeps in this file is not known"},
		{"a mount namespace", named("mountpoints-9.img"), "mountpoints-9.img: the image of criu's holds a mount namespace, which is not carried"},
		{"a network namespace", named("netns-9.img"), "netns-9.img: the image of criu's holds a network namespace, which is not carried"},
		{"a terminal from outside", terminal(func(e *tty.TtyInfoEntry) {}),
			"tty-info.img: the other end of the terminal /dev/pts/3 is outside of the image"},
		{"the console", terminal(func(e *tty.TtyInfoEntry) { e.Type, e.Rdev = tty.TtyType_CONSOLE.Enum(), proto.Uint32(0x501) }),
			"tty-info.img: a terminal of type CONSOLE (device 5:1) is not carried"},
		{"input that waits in a terminal", func(t *testing.T, dir string) {
			terminal(func(e *tty.TtyInfoEntry) { e.Rdev = proto.Uint32(0x502) })(t, dir)
			write(t, dir, image.TTYData, &tty.TtyDataEntry{TtyId: proto.Uint32(1), Data: []byte("ls")})
		}, "tty-data.img: what waits to be read in a terminal is not carried from an image of criu's"},
		{"a newer criu", core(func(e *criu_core.CoreEntry) { newer(e, 99, nil) }),
			"core-10322.img: entry 1 has a field that is not known: core_entry, number 99"},
		{"a newer criu, deep inside", core(func(e *criu_core.CoreEntry) { newer(e.Tc.Timers.Real, 99, nil) }),
			"core-10322.img: entry 1 has a field that is not known: itimer_entry, number 99"},
		{"a newer format", func(t *testing.T, dir string) {
			alter(t, dir, image.Inventory, "", func(e *inventory.InventoryEntry) { e.ImgVersion = proto.Uint32(3) })
		}, "inventory.img: version 3 of CRIU's format is not known"},
		{"a plugin", func(t *testing.T, dir string) {
			alter(t, dir, image.Inventory, "", func(e *inventory.InventoryEntry) { newer(e, fieldInventoryPlugins, []byte("x")) })
		}, "inventory.img: plugins of criu's have saved a part of the image"},
		{"another machine", core(func(e *criu_core.CoreEntry) { e.Mtype = criu_core.CoreEntry_AARCH64.Enum() }),
			"restore pid 10322 (carried): the image is of a machine of type AARCH64, only x86-64 is carried"},
		{"32-bit code", core(func(e *criu_core.CoreEntry) { e.ThreadInfo.Gpregs.Mode = core_x86.UserX86RegsMode_COMPAT.Enum() }),
			"restore pid 10322 (carried): it runs 32-bit code, which is not carried"},
		{"a segment", core(func(e *criu_core.CoreEntry) { e.ThreadInfo.Tls[0].SegNotPresent = proto.Bool(false) }),
			"restore pid 10322 (carried): it has a segment of set_thread_area(2), as 32-bit code has, which is not carried"},
		{"AMX", core(func(e *criu_core.CoreEntry) { e.ThreadInfo.Fpregs.Xsave.XstateBv = proto.Uint64(1<<18 | 7) }),
			"restore pid 10322 (carried): its extended registers hold state (XSAVE 0x40000) that criu has not saved"},
		{"a shadow stack", core(func(e *criu_core.CoreEntry) { newer(e.ThreadInfo.Fpregs.Xsave, fieldXsaveCET, []byte{0x10, 5}) }),
			"restore pid 10322 (carried): a shadow stack (CET) is not carried"},
		{"rseq", core(func(e *criu_core.CoreEntry) {
			e.ThreadCore.RseqEntry = &rseq.RseqEntry{RseqAbiPointer: proto.Uint64(1), RseqAbiSize: proto.Uint32(32), Signature: proto.Uint32(1), RseqCsPointer: proto.Uint64(1)}
		}), "restore pid 10322 (carried): it is within a sequence of rseq(2) that is not to be restarted"},
		{"a deadline", core(func(e *criu_core.CoreEntry) {
			e.ThreadCore.SchedPolicy = proto.Uint32(unix.SCHED_DEADLINE | resetOnFork)
		}),
			"restore pid 10322 (carried): it is scheduled by deadline (SCHED_DEADLINE), of which criu has not saved the times"},
		{"SELinux", core(func(e *criu_core.CoreEntry) { e.ThreadCore.Creds.LsmProfile = proto.String("system_u:object_r") }),
			`restore pid 10322 (carried): it is confined by a security module as "system_u:object_r", which is not carried`},
		{"a thread in another control group", func(t *testing.T, dir string) {
			alter(t, dir, image.Core, "10331", func(e *criu_core.CoreEntry) { e.ThreadCore.CgSet = proto.Uint32(2) })
		}, "restore pid 10322 (carried): it is in other control groups than the first process, which is not carried"},
		{"an unknown state", core(func(e *criu_core.CoreEntry) { e.Tc.TaskState = proto.Uint32(9) }),
			"restore pid 10322 (carried): it is in state 9 of criu's, which is not known"},
		{"AIO", space(func(e *mm.MmEntry) {
			e.Aios = append(e.Aios, &mm.AioRingEntry{Id: proto.Uint64(1), NrReq: proto.Uint32(1), RingLen: proto.Uint32(1)})
		}), "restore pid 10322 (carried): its AIO contexts (io_setup(2)) are not carried from an image of criu's"},
		{"huge pages", space(func(e *mm.MmEntry) { e.Vmas[0].Flags = proto.Uint32(e.Vmas[0].GetFlags() | unix.MAP_HUGETLB) }),
			"restore pid 10322 (carried): mapping 0x400000-0x401000: huge pages are not carried from an image of criu's"},
		{"an unknown mapping", space(func(e *mm.MmEntry) { e.Vmas[0].Status = proto.Uint32(1 << 15) }),
			"restore pid 10322 (carried): mapping 0x400000-0x401000: it is of a sort (0x8000) that is not known"},
		{"a mapped file that is not there", space(func(e *mm.MmEntry) { e.Vmas[0].Shmid = proto.Uint64(1 << 40) }),
			"mm-10322.img: the mapping at 0x400000 is of file 1099511627776, which files.img does not hold"},
		{"a network namespace without its file", ids(first, func(e *criu_core.TaskKobjIdsEntry) { e.NetNsId = proto.Uint32(77) }),
			"restore pid 10332 (carried): it has a namespace of its own (net) within an image of criu's, which is not carried"},
		{"a namespace of a child", ids("10332", func(e *criu_core.TaskKobjIdsEntry) { e.IpcNsId = proto.Uint32(77) }),
			"restore pid 10332 (carried): it has a namespace of its own (ipc) within an image of criu's, which is not carried"},
		{"a pidfd of an ended process", file(func(e *fdinfo.FileEntry) {
			e.Type = fdinfo.FdTypes(typePidfd).Enum()
			newer(e, fieldFilePidfd, []byte("\x08\x01\x10\x09\x18\x00\x20\xff\xff\xff\xff\x0f\x2a\x0a\x08\x00\x10\x00\x18\x00\x20\x00\x28\x00"))
		}), "files.img: file 1 is a pidfd of a process that has ended, which is not carried from an image of criu's"},
		{"a pidfd that lacks itself", file(func(e *fdinfo.FileEntry) { e.Type = fdinfo.FdTypes(typePidfd).Enum() }),
			"files.img: file 1, a pidfd, lacks what it is"},
		{"an unknown sort of file", file(func(e *fdinfo.FileEntry) { e.Type = fdinfo.FdTypes(333).Enum() }),
			"files.img: file 1 is of type 333, which is not carried from an image of criu's"},
		{"a file that lacks itself", file(func(e *fdinfo.FileEntry) { e.Type = fdinfo.FdTypes_PIPE.Enum() }), "files.img: file 1 lacks what it is"},
		{"pid 0", func(t *testing.T, dir string) {
			alter(t, dir, image.PSTree, "", func(e *pstree.PstreeEntry) { e.Pid = proto.Uint32(0) })
		}, "pstree.img: pid 0 has no leading thread"},
		{"a group that cannot be", func(t *testing.T, dir string) {
			alter(t, dir, image.PSTree, "", func(e *pstree.PstreeEntry) { e.Pgid = proto.Uint32(1 << 31) })
		}, "pstree.img: id 2147483648 is none that a group or session can have"},
		{"a parent of the first", func(t *testing.T, dir string) {
			alter(t, dir, image.PSTree, "", func(e *pstree.PstreeEntry) { e.Ppid = proto.Uint32(10335) })
		}, "pstree.img: pid 10322 is the first, and has a parent"},
	} {
		t.Run(c.what, func(t *testing.T) {
			dir := unpacked(t, tree)
			c.change(t, dir)
			r, err := image.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			err = Translate(r)
			if err == nil {
				t.Fatal("it is taken")
			}
			if got := failure.All(err)[0].Error(); got != c.want {
				t.Errorf("%s\nwant: %s", got, c.want)
			}
			if code := failure.Code(err); code != 3 && code != 4 {
				t.Errorf("exit code %d", code)
			}
			if failure.Code(err) == 3 && len(failure.Hints(err)) == 0 {
				t.Error("it does not tell what to do")
			}
			if r.Manifest() != nil {
				t.Error("it is translated nevertheless")
			}
		})
	}
}
