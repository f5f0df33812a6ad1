package sysv

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/ipc-desc"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/ipc-msg"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/ipc-sem"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/ipc-shm"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
)

func someDesc(id uint32) *ipc_desc.IpcDescEntry {
	zero := proto.Uint32(0)
	return &ipc_desc.IpcDescEntry{Key: zero, Uid: zero, Gid: zero, Cuid: zero, Cgid: zero, Mode: proto.Uint32(0o600), Id: proto.Uint32(id)}
}

// What contradicts itself is damage, found before anything is made.
func TestHostileImages(t *testing.T) {
	u32 := proto.Uint32
	for _, tt := range []struct {
		name string
		add  func(w *image.Writer) error
		want string
		err  error
	}{
		{"messages missing", func(w *image.Writer) error {
			return w.Add(image.IPCMsg, "1", &ipc_msg.IpcMsgEntry{Desc: someDesc(0), Qbytes: u32(1), Qnum: u32(2)})
		}, "ends at message 0 of 2", failure.ErrDamaged},
		{"message cut off", func(w *image.Writer) error {
			return errors.Join(w.Add(image.IPCMsg, "1", &ipc_msg.IpcMsgEntry{Desc: someDesc(0), Qbytes: u32(1), Qnum: u32(1)}),
				w.Add(image.IPCMsg, "1", &ipc_msg.IpcMsg{Mtype: proto.Uint64(1), Msize: u32(100)}, make([]byte, 99)))
		}, "cut off", failure.ErrDamaged},
		{"message of type 0", func(w *image.Writer) error {
			return errors.Join(w.Add(image.IPCMsg, "1", &ipc_msg.IpcMsgEntry{Desc: someDesc(0), Qbytes: u32(1), Qnum: u32(1)}),
				w.Add(image.IPCMsg, "1", &ipc_msg.IpcMsg{Mtype: proto.Uint64(0), Msize: u32(0)}))
		}, "of type 0", failure.ErrDamaged},
		{"no semaphores", func(w *image.Writer) error {
			return w.Add(image.IPCSem, "1", &ipc_sem.IpcSemEntry{Desc: someDesc(0), Nsems: u32(0)})
		}, "has 0 semaphores", failure.ErrDamaged},
		{"values missing", func(w *image.Writer) error {
			return w.Add(image.IPCSem, "1", &ipc_sem.IpcSemEntry{Desc: someDesc(0), Nsems: u32(5)}, make([]byte, 8))
		}, "cut off", failure.ErrDamaged},
		{"value too high", func(w *image.Writer) error {
			return w.Add(image.IPCSem, "1", &ipc_sem.IpcSemEntry{Desc: someDesc(0), Nsems: u32(1)}, []byte{0xff, 0xff, 0, 0, 0, 0, 0, 0})
		}, "has value 65535", failure.ErrDamaged},
		{"empty segment", func(w *image.Writer) error {
			return w.Add(image.IPCShm, "1", &ipc_shm.IpcShmEntry{Desc: someDesc(0), Size: proto.Uint64(0), InPagemaps: proto.Bool(true)})
		}, "size is 0", failure.ErrDamaged},
		{"negative id", func(w *image.Writer) error {
			return w.Add(image.IPCShm, "1", &ipc_shm.IpcShmEntry{Desc: someDesc(1 << 31), Size: proto.Uint64(1), InPagemaps: proto.Bool(true)})
		}, "with id -2147483648", failure.ErrDamaged},
		{"flags", func(w *image.Writer) error {
			return w.Add(image.IPCShm, "1", &ipc_shm.IpcShmEntry{Desc: someDesc(0), Size: proto.Uint64(1), InPagemaps: proto.Bool(true), HugetlbFlag: u32(0o1000)})
		}, "flags of huge pages", failure.ErrDamaged},
		{"old format", func(w *image.Writer) error {
			return w.Add(image.IPCShm, "1", &ipc_shm.IpcShmEntry{Desc: someDesc(0), Size: proto.Uint64(4)}, make([]byte, 4))
		}, "before 3.0", failure.ErrUnsupported},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "img")
			w, err := image.Create(dir, image.Options{})
			check(t, err)
			check(t, tt.add(w))
			check(t, w.Commit(&image.Manifest{}))
			in, err := image.Open(dir)
			check(t, err)
			defer in.Close()
			k := Kind()
			if err = k.Restore(&kind.Restore{In: in}); err == nil {
				err = k.Born(&kind.Restore{In: in})
			}
			if !errors.Is(err, tt.err) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestContentsBehindTheEnd(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "img")
	w, err := image.Create(dir, image.Options{})
	check(t, err)
	p, err := w.Pages("shmem-3")
	check(t, err)
	check(t, p.Write(image.PageSize, make([]byte, image.PageSize)))
	check(t, w.Commit(&image.Manifest{}))
	in, err := image.Open(dir)
	check(t, err)
	defer in.Close()
	if err := fillRuns(in, 3, make([]byte, image.PageSize)); !errors.Is(err, failure.ErrDamaged) {
		t.Errorf("error %v", err)
	}
}

func TestSameSort(t *testing.T) {
	page := func(c ...byte) (b []byte) {
		for _, v := range c {
			b = append(b, make([]byte, image.PageSize-1)...)
			b = append(b, v)
		}
		return b
	}
	for _, tt := range []struct {
		b     []byte
		pages int
	}{{page(0), 1}, {page(0, 0, 1), 2}, {page(1, 2, 0, 3), 2}, {page(1, 1), 2}} {
		if got := sameSort(tt.b); got != tt.pages*image.PageSize {
			t.Errorf("%d bytes, want %d pages", got, tt.pages)
		}
	}
}
