// Package core writes a process of an image as an ELF core file (core(5)), as
// the kernel writes it of one that dies, for debuggers.
//
// What stands in it follows fs/binfmt_elf.c and fs/coredump.c (Linux 6.18): a
// note of registers a thread, notes of the process, then the mappings, of which
// the process's coredump_filter says what is in the file. Unlike the kernel,
// it has all of private memory without a file that can be read, also what was
// never touched, and of a mapped file only what is still as it was.
//
// The process goes on in the image: it was not killed by a signal, and the file
// says of none, unless one has stopped it.
package core

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/inspect"
)

// ErrNoProcess: the image has no process of the number that was asked for.
var ErrNoProcess = errors.New("no such process")

// Output takes the file from front to back.
type Output interface {
	Write(b []byte) (int, error)
	// Skip writes n zeros.
	Skip(n uint64) error
}

// Lacks is a mapped file of which the core file has nothing, though it should.
type Lacks struct{ Path, Why string }

// Write writes process vpid of an image. Contents are compared with the image's
// checksums as they are read, so that out may have got a part when damage is
// found. It takes a few MiB of memory, however large the process is.
func Write(ctx context.Context, r *image.Reader, vpid uint32, out Output) ([]Lacks, error) {
	in, err := inspect.Load(r)
	if err != nil {
		return nil, err
	}
	p, err := find(in, vpid)
	if err != nil {
		return nil, err
	}
	s, err := newSpace(in, p)
	if err != nil {
		return nil, err
	}
	defer s.close()
	notes, err := notesOf(in, p, s)
	if err != nil {
		return nil, err
	}
	segments, err := s.segments()
	if err != nil {
		return nil, err
	}
	total := uint64(0)
	for _, g := range segments {
		total += g.stored()
	}
	phase := r.Progress().BeginOf(1, image.PhaseMemory, total)
	if err := write(ctx, out, notes, segments, phase); err != nil {
		return nil, err
	}
	phase.End()
	return s.lacks, nil
}

// find reads a process whose memory and registers the image has.
func find(in *inspect.Image, vpid uint32) (*inspect.Process, error) {
	var known []string
	for _, e := range in.Tree {
		if e.GetPid() == vpid {
			p, err := in.Process(e)
			if err != nil {
				return nil, err
			}
			return p, refuse(p)
		}
		if slices.Contains(image.Threads(e), vpid) {
			return nil, failure.WithHint(failure.Mark(ErrNoProcess, fmt.Errorf("%d is a thread of pid %d", vpid, e.GetPid())),
				fmt.Sprintf("give pid %d: the file has all its threads", e.GetPid()))
		}
		known = append(known, strconv.FormatUint(uint64(e.GetPid()), 10))
	}
	return nil, failure.WithHint(failure.Mark(ErrNoProcess, fmt.Errorf("there is no pid %d in the image", vpid)),
		"it has "+listed(known))
}

// listed are the numbers of processes in a sentence, as far as anybody reads.
func listed(pids []string) string {
	const most = 20
	if len(pids) <= most {
		return "pid " + strings.Join(pids, ", ")
	}
	return fmt.Sprintf("pid %s and %d others (ckpt inspect tells them)", strings.Join(pids[:most], ", "), len(pids)-most)
}

func refuse(p *inspect.Process) error {
	pid, comm := p.Entry.GetPid(), p.TC.GetComm()
	switch mtype := p.Threads[0].Core.GetMtype(); {
	case p.Zombie():
		return failure.WithHint(failure.Unsupportedf("pid %d (%s) is a zombie: it has neither memory nor registers any more", pid, comm),
			"take a process that lives (ckpt inspect tells which)")
	case mtype != criu_core.CoreEntry_X86_64:
		return failure.Unsupportedf("pid %d (%s) is of a machine (%s) whose registers ckpt cannot write down", pid, comm, strings.ToLower(mtype.String()))
	}
	return nil
}
