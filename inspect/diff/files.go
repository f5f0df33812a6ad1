package diff

import (
	"fmt"
	"hash/crc32"
	"strings"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/pipe-data"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/sk-packet"

	"ckpt/image"
)

// number tells which fields of a file entry are numbers by which the image, or the
// kernel it was made on, refers to other things: another image has others.
func number(path string) bool {
	names := strings.Split(path, ".")
	switch names[len(names)-1] {
	case "id", "ino", "inode", "dev", "s_dev", "i_ino", "f_handle", "peer", "pipe_id", "regf_id", "mnt_id", "ns_id", "tty_info_id", "inode_id", "cookie":
		return true
	}
	switch path {
	case "epfd.tfd.pos", "tfd.vsec", "tfd.vnsec": // see armed
		return true
	}
	return false
}

// numberOfExtra is the same of ckpt's own.
func numberOfExtra(path string) bool {
	switch path {
	case "expires_ns", "id", "dev", "ino", "epoll_files", "watched_files", "pidfd_held", "proc_held", "pending", "message_queue", "ring.shmid", "knocks.client", "table", "inode":
		return true
	}
	return false
}

// lasting is what a descriptor refers to, without such numbers.
func lasting(f image.File) string {
	switch f.Type {
	case "pipe":
		_, end, _ := strings.Cut(f.What, ", ")
		return end
	case "unix":
		what, _, _ := strings.Cut(f.What, ", peer of socket")
		return what
	case "namespace":
		return ""
	case "timerfd":
		return "" // its fields tell
	}
	return f.What
}

// holder is a descriptor: "pid 2 fd 3" has the file.
type holder struct {
	file uint32 // id in files.img
	name string
}

// links tell which descriptors belong together, in the order of the tree.
type links struct {
	files map[uint32][]holder // by id in files.img
	pipes map[uint32][]holder // by pipe_id
	socks map[uint32][]holder // by the ino of a unix socket
}

func (s *side) link() {
	s.links = links{map[uint32][]holder{}, map[uint32][]holder{}, map[uint32][]holder{}}
	for _, p := range s.head.Processes {
		for _, f := range p.Files {
			h := holder{f.ID, fmt.Sprintf("pid %d fd %d", p.VPID, f.FD)}
			s.links.files[f.ID] = append(s.links.files[f.ID], h)
			switch e := s.Files[f.ID]; {
			case e.GetPipe() != nil:
				s.links.pipes[e.GetPipe().GetPipeId()] = append(s.links.pipes[e.GetPipe().GetPipeId()], h)
			case e.GetUsk() != nil:
				s.links.socks[e.GetUsk().GetIno()] = append(s.links.socks[e.GetUsk().GetIno()], h)
			}
		}
	}
}

// sameAs are the other descriptors of an open file description.
func (s *side) sameAs(f image.File, here string) string {
	return names(s.links.files[f.ID], func(h holder) bool { return h.name != here })
}

// connected are the descriptors that a file leads to: the other ends of its pipe,
// the peer of its socket.
func (s *side) connected(e *fdinfo.FileEntry) string {
	switch {
	case e.GetPipe() != nil:
		return names(s.links.pipes[e.GetPipe().GetPipeId()], func(h holder) bool { return h.file != e.GetId() })
	case e.GetUsk().GetPeer() != 0:
		return names(s.links.socks[e.GetUsk().GetPeer()], func(holder) bool { return true })
	}
	return ""
}

// names lists holders, as far as anybody reads.
func names(hs []holder, which func(holder) bool) string {
	const most = 5
	var out []string
	n := 0
	for _, h := range hs {
		if !which(h) {
			continue
		}
		if n++; n <= most {
			out = append(out, h.name)
		}
	}
	if n > most {
		out = append(out, fmt.Sprintf("%d others", n-most))
	}
	return strings.Join(out, ", ")
}

// queues sums up what waits in pipes, FIFOs and sockets.
func (s *side) queues() error {
	s.waiting = map[string]string{}
	for _, q := range []struct {
		format image.Format
		sort   string
	}{{image.PipesData, "pipe"}, {image.FifoData, "fifo"}} {
		err := image.Each(s.In, q.format, "", func(m *pipe_data.PipeDataEntry, data func(int) ([]byte, error)) error {
			b, err := data(int(m.GetBytes()))
			s.waiting[fmt.Sprintf("%s %d", q.sort, m.GetPipeId())] = sumText(len(b), crc32.ChecksumIEEE(b))
			return err
		})
		if err != nil {
			return err
		}
	}
	bytes, sums := map[string]int{}, map[string]uint32{}
	return image.Each(s.In, image.SkQueues, "", func(m *sk_packet.SkPacketEntry, data func(int) ([]byte, error)) error {
		b, err := data(int(m.GetLength()))
		key := fmt.Sprintf("socket %d", m.GetIdFor())
		bytes[key] += len(b)
		sums[key] = crc32.Update(sums[key], crc32.IEEETable, b)
		s.waiting[key] = sumText(bytes[key], sums[key])
		return err
	})
}

func sumText(n int, sum uint32) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%d bytes with the sum %08x", n, sum)
}

// queueOf names what holds the data that wait for the reader of a file.
func queueOf(e *fdinfo.FileEntry) string {
	switch {
	case e.GetPipe() != nil:
		return fmt.Sprintf("pipe %d", e.GetPipe().GetPipeId())
	case e.GetFifo() != nil:
		return fmt.Sprintf("fifo %d", e.GetFifo().GetPipeId())
	}
	return fmt.Sprintf("socket %d", e.GetId())
}
