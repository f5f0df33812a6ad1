package memory

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"ckpt/image"
	"ckpt/tracee"
)

// source is where a bare child reads contents of pages: a file that has them as
// they are, at offsets that preadv(2) is given; or a socket, over which ckpt sends
// what it has decoded, in the order in which it is asked for.
type source struct {
	runs []image.Run
	file *os.File
	at   int64      // where contents begin in it, in bytes
	sent chan error // nil: a file
}

// sources are those of runs: those in one plain file each, in order of address, and
// all others. What is sent counts as it goes.
func sources(runs []image.Run, memory *image.Phase) (all []*source, err error) {
	var coded source
	plain := map[*image.PagesFile]*source{}
	for _, r := range runs {
		s := &coded
		if f, at := r.File.Raw(); f != nil {
			if s = plain[r.File]; s == nil {
				s = &source{file: f, at: at}
				plain[r.File] = s
				all = append(all, s)
			}
		}
		s.runs = append(s.runs, r)
	}
	if len(coded.runs) == 0 {
		return all, nil
	}
	coded.runs = byFile(coded.runs)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket for pages of memory: %w", err)
	}
	coded.file = os.NewFile(uintptr(pair[0]), "pages of memory")
	coded.sent = make(chan error, 1)
	to := os.NewFile(uintptr(pair[1]), "pages of memory")
	go func(runs []image.Run) {
		defer to.Close()
		coded.sent <- image.Send(memory.Writer(to), runs)
	}(coded.runs)
	return append(all, &coded), nil
}

// byFile puts runs of one file together, each still in order of address.
func byFile(runs []image.Run) []image.Run {
	nth := map[*image.PagesFile]int{}
	for _, r := range runs {
		if _, ok := nth[r.File]; !ok {
			nth[r.File] = len(nth)
		}
	}
	slices.SortStableFunc(runs, func(a, b image.Run) int { return cmp.Compare(nth[a.File], nth[b.File]) })
	return runs
}

// filling is what is under way of the calls that read from files: who looks sees how
// far they are, one by one.
type filling struct {
	steps []tracee.Step
	bytes []uint64
}

func (f *filling) add(step tracee.Step, bytes uint64) {
	f.steps, f.bytes = append(f.steps, step), append(f.bytes, bytes)
}

// total is in bytes.
func (f *filling) total() (n uint64) {
	for _, b := range f.bytes {
		n += b
	}
	return n
}

// done is how much is read, in bytes, while a thread runs the script.
func (f *filling) done(s *tracee.Script, tid int) (n uint64) {
	for i, step := range f.steps {
		if s.Peek(tid, step) != f.bytes[i] {
			break
		}
		n += f.bytes[i]
	}
	return n
}

// next adds the call that reads the next pages, total bytes, and takes them from
// s.runs. The descriptor is its first argument.
func (s *source) next(sc *tracee.Script, fd uint64) (step tracee.Step, total uint64) {
	rest, vec, total := vector(s.runs, s.sent == nil)
	at, n := sc.Data(vec), uint64(len(vec)/16)
	if s.sent == nil {
		step = sc.Must(unix.SYS_PREADV, fd, at, n, uint64(s.at+s.runs[0].Offset), 0)
		sc.Explain(step, s.runs[0].File.Unread)
	} else {
		// struct msghdr, whose vector is all that it has.
		head := binary.LittleEndian.AppendUint64(make([]byte, 16), at)
		head = binary.LittleEndian.AppendUint64(head, n)
		step = sc.Must(unix.SYS_RECVMSG, fd, sc.Data(append(head, make([]byte, 24)...)), unix.MSG_WAITALL)
	}
	sc.Note(step, "read the pages of memory")
	s.runs = rest
	return step, total
}

// end tells, once all was read or reading has failed with err, what went wrong.
func (s *source) end(err error) error {
	if s.sent == nil {
		return err
	}
	_ = s.file.Close() // ends one who still sends
	if sent := <-s.sent; sent != nil && !errors.Is(sent, unix.EPIPE) {
		return sent
	}
	return err
}
