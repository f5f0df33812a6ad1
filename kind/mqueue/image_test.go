package mqueue

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/tracee"
)

// What contradicts itself is damage, found before anything is made.
func TestHostileImages(t *testing.T) {
	for _, tt := range []struct {
		name    string
		entries []proto.Message
		want    string
	}{
		{"messages missing", []proto.Message{&image.MessageQueue{Name: []byte("q"), MaxMessages: 2, Messages: 2}}, "ends at message 0 of 2 of /q"},
		{"more messages than may be", []proto.Message{
			&image.MessageQueue{Name: []byte("q"), MaxMessages: 1, Messages: 2}, &image.QueuedMessage{}, &image.QueuedMessage{}},
			"has messages beyond its limits of 1 messages and 0 bytes each"},
		{"longer than may be", []proto.Message{
			&image.MessageQueue{Name: []byte("q"), MaxMessages: 1, MessageSize: 3, Messages: 1}, &image.QueuedMessage{Text: []byte("four")}},
			"has messages beyond its limits of 1 messages and 3 bytes each"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "img")
			w, err := image.Create(dir, image.Options{})
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range tt.entries {
				if err := w.Add(image.MessageQueues, "", e); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Commit(&image.Manifest{}); err != nil {
				t.Fatal(err)
			}
			in, err := image.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			_, queues, _ := New()
			if err := queues.Restore(&kind.Restore{In: in}); !errors.Is(err, failure.ErrDamaged) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestUnknownQueue(t *testing.T) {
	files, _, notices := New()
	r := &kind.Restore{Extras: map[uint32]*image.FileExtra{1: {Id: 1, MessageQueue: 7}}}
	if _, err := files.Restore(r, &fdinfo.FileEntry{Id: proto.Uint32(1)}); !errors.Is(err, failure.ErrDamaged) {
		t.Errorf("a descriptor: %v", err)
	}
	held := []*fdinfo.FdinfoEntry{{Id: proto.Uint32(1), Fd: proto.Uint32(3)}}
	for _, n := range []*image.QueueNotice{{Queue: 8}, {}, {Queue: 7, Notify: 3}, {Queue: 7, Notify: sigevThread, Cookie: []byte("short")}} {
		target := &kind.Target{Fds: held, Late: tracee.NewScript(0x1000), Extra: &image.Task{QueueNotices: []*image.QueueNotice{n}}}
		if err := notices.Restore(r, target); !errors.Is(err, failure.ErrDamaged) {
			t.Errorf("notice %v: %v", n, err)
		}
	}
}

func TestParseStatus(t *testing.T) {
	how, signal, pid, err := parseStatus("QSIZE:11         NOTIFY:2     SIGNO:10    NOTIFY_PID:7067  \n")
	if how != sigevThread || signal != 10 || pid != 7067 || err != nil {
		t.Errorf("%d %d %d, %v", how, signal, pid, err)
	}
	if _, _, _, err := parseStatus("QSIZE:11 "); err == nil {
		t.Error("half a line was read")
	}
}

// TestRoom: what may take more room than ckpt has is refused; as much as that is
// to be had of the kernel only with CAP_SYS_RESOURCE.
func TestRoom(t *testing.T) {
	for _, c := range []struct {
		waiting int
		size    int64
		says    string
	}{
		{0, 16 << 20, ""}, {10, 8192, ""}, {60000, 100, ""},
		{9, 8 << 20, "9 messages wait in it, each of up to 8388608 bytes, which may be more than 64 MiB"},
		{0, 1 << 62, "0 messages wait in it, each of up to 4611686018427387904 bytes, which may be more than 64 MiB"},
	} {
		err := (&queue{waiting: c.waiting, e: &image.MessageQueue{MessageSize: c.size}}).fits()
		if (err != nil) != (c.says != "") || err != nil && (err.Error() != c.says || len(failure.Hints(err)) != 1) {
			t.Errorf("%d of %d bytes: %v, want %q", c.waiting, c.size, err, c.says)
		}
	}
}
