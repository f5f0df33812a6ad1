package sysv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/tracee"
)

// refuseUsed refuses what processes have used of a namespace that is not theirs
// alone, where the kernel remembers them for having been the last.
func refuseUsed(d *kind.Dump) error {
	queues, _, err := messageQueues().look(d)
	if err != nil {
		return err
	}
	var refused []error
	for _, q := range queues {
		what := fmt.Sprintf("message queue %d", q.id)
		refused = append(refused, usedBy(d, what, q.pid(msgLspid), q.word(msgStime)))
		if q.pid(msgLrpid) != q.pid(msgLspid) {
			refused = append(refused, usedBy(d, what, q.pid(msgLrpid), q.word(msgRtime)))
		}
	}
	sets, _, err := semaphores().look(d)
	if err != nil {
		return errors.Join(append(refused, err)...)
	}
	for _, o := range sets {
		pids, err := changedBy(d, o)
		if err != nil {
			return errors.Join(append(refused, err)...)
		}
		for p := range pids {
			refused = append(refused, usedBy(d, fmt.Sprintf("semaphore set %d", o.id), p, max(o.word(semOtime), o.word(semCtime))))
		}
	}
	return errors.Join(refused...)
}

func (o object) pid(at int) pidns.HostPID {
	return pidns.HostPID(binary.NativeEndian.Uint32(o.raw[at:]))
}

// usedBy refuses an object that a process of d used last, at a time in seconds
// since 1970. One that was born later only has the number of whoever did.
func usedBy(d *kind.Dump, what string, pid pidns.HostPID, at uint64) error {
	v, ok := d.VPID(pid)
	if !ok || pid == 0 {
		return nil
	}
	p := d.Running(v)
	if p == nil {
		return nil
	}
	born, err := bornAt(p)
	if err != nil || born.Unix() > int64(at) {
		return err
	}
	return &failure.Error{VPID: int(p.VPID), Comm: p.Comm, Err: failure.WithHint(
		failure.Unsupportedf("it has used %s of the host, which other programs may use, too", what),
		"start the program with ckpt start: in a container it has System V objects of its own", "or remove it, if nobody needs it any more (ipcrm)")}
}

// bornAt is when a process of ckpt's own pid namespace began.
func bornAt(p *kind.Proc) (time.Time, error) {
	const ticks = 100 // a second (USER_HZ)
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		return time.Time{}, fmt.Errorf("read CLOCK_BOOTTIME: %w", err)
	}
	return time.Now().Add(-time.Duration(up.Nano())).Add(time.Duration(p.Stat.StartTime) * (time.Second / ticks)), nil
}

// changedBy are those who changed a semaphore of a set last; none of one that may
// not be read, or is gone.
func changedBy(d *kind.Dump, o object) (map[pidns.HostPID]bool, error) {
	out := map[pidns.HostPID]bool{}
	const most = 2048 // in a script
	for from, n := 0, int(o.word(semNsems)); from < n; from += most {
		var steps []tracee.Step
		err := d.Inside(func(sc *tracee.Script) error {
			for num := from; num < min(n, from+most); num++ {
				steps = append(steps, sc.Try(unix.SYS_SEMCTL, uint64(o.id), uint64(num), semGetPID))
			}
			return nil
		}, func(sc *tracee.Script) error {
			for _, step := range steps {
				if p, err := sc.Result(step); err == nil {
					out[pidns.HostPID(p)] = true
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}
