package sysv

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kind"
	"ckpt/tracee"
)

// batch bounds the data of one script in init, in bytes.
const batch = 256 << 10

// infoSize is enough for what every info command gives, in bytes.
const infoSize = 128

// list finds all objects of a sort, in a namespace where nothing runs.
func (s sort) list(d *kind.Dump) ([]object, error) {
	out, count, err := s.look(d)
	if err == nil && len(out) != count {
		return nil, fmt.Errorf("the kernel tells of %d %ss and lists %d", count, s.name, len(out))
	}
	return out, err
}

// look finds the objects of a sort, and how many there were a moment before.
func (s sort) look(d *kind.Dump) (out []object, count int, err error) {
	top, count, err := s.count(d)
	if err != nil || count == 0 {
		return nil, 0, err
	}
	perBatch := batch / (s.size + 16)
	for from := 0; from <= top; from += perBatch {
		some, err := s.stats(d, from, min(top+1, from+perBatch))
		if err != nil {
			return nil, 0, err
		}
		out = append(out, some...)
	}
	return out, count, nil
}

// count gives the highest index in use and the number of objects.
func (s sort) count(d *kind.Dump) (top, count int, err error) {
	var buf uint64
	var step tracee.Step
	err = d.Inside(func(sc *tracee.Script) error {
		buf = sc.Space(infoSize)
		step = sc.Must(s.ctl, s.args(0, s.info, buf)...)
		sc.Note(step, "count the "+s.name+"s")
		return nil
	}, func(sc *tracee.Script) error {
		n, err := sc.Result(step)
		top, count = int(n), int(binary.NativeEndian.Uint32(sc.Bytes(buf, infoSize)[s.countAt:]))
		return err
	})
	return top, count, err
}

// stats reads the objects at indices from to end; some are not in use.
func (s sort) stats(d *kind.Dump, from, end int) (out []object, err error) {
	bufs, steps := make([]uint64, end-from), make([]tracee.Step, end-from)
	err = d.Inside(func(sc *tracee.Script) error {
		for i := range bufs {
			bufs[i] = sc.Space(s.size)
			steps[i] = sc.Try(s.ctl, s.args(uint64(from+i), s.stat, bufs[i])...)
		}
		return nil
	}, func(sc *tracee.Script) error {
		for i := range bufs {
			id, err := sc.Result(steps[i])
			if errors.Is(err, unix.EINVAL) {
				continue
			}
			if err != nil {
				return fmt.Errorf("look at %s with index %d: %w", s.name, from+i, err)
			}
			out = append(out, object{int(id), bytes.Clone(sc.Bytes(bufs[i], s.size))})
		}
		return nil
	})
	return out, err
}

// readable turns a lack of rights into a refusal. ckpt's own init has all
// rights inside; a command that is vpid 1 itself may have given them up.
func readable(err error) error {
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		return failure.WithHint(failure.Unsupportedf("vpid 1, through which ckpt looks, may not read it: %w", err),
			"start the container without --no-init")
	}
	return err
}
