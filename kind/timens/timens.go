// Package timens lets the clocks CLOCK_MONOTONIC and CLOCK_BOOTTIME of a
// container go on where they stood, on another machine or after a reboot.
//
// # What the kernel shows
//
// The offsets of a time namespace in /proc/PID/timens_offsets
// (time_namespaces(7)). They count from the clocks of the first time namespace,
// also in a nested one.
//
// # What is saved
//
// Both clocks as they stood inside, in timens-N.img as CRIU does. Whoever
// makes the new container turns them into offsets (Read, Offsets) and writes
// these before the first process is born into the new namespace: they cannot
// be changed any more then (EACCES).
//
// # What is lost
//
// The time between dump and restore does not pass on these clocks. The clocks
// of the day (CLOCK_REALTIME, CLOCK_TAI) have no offset and jump.
//
// # Needs
//
// Time namespaces (Linux 5.6, commit 769071ac9f20). Without them the clocks
// are the host's: after a reboot they stand lower than they did.
package timens

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"time"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/timens"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/procfs"
)

// Clocks are readings of, or offsets to, the two clocks that have offsets.
type Clocks struct {
	Monotonic, Boottime time.Duration
}

// Kind is the time namespace. Restore has nothing left to do: no process could
// be in the namespace before its offsets stood.
func Kind() kind.Namespace {
	return kind.Namespace{
		Name:  "clocks",
		Saves: "CLOCK_MONOTONIC and CLOCK_BOOTTIME go on where they stood",
		Needs: "time namespaces (5.6)",
		Sort:  "time", Dump: dump,
		Restore: func(*kind.Restore) error { return nil },
		Limits:  "CLOCK_MONOTONIC and CLOCK_BOOTTIME stand still between dump and restore; the clocks of the day do not",
	}
}

func dump(d *kind.Dump) error {
	its, err := offsetsOf(int(d.Home))
	if err != nil {
		return err
	}
	now, err := Now()
	if err != nil {
		return err
	}
	e := Save(Clocks{now.Monotonic + its.Monotonic, now.Boottime + its.Boottime})
	return d.Out.Add(image.TimeNS, d.NamespaceFile(), e)
}

// Save turns clocks as they stand inside into what the image holds.
func Save(inside Clocks) *timens.TimensEntry {
	return &timens.TimensEntry{Monotonic: timespec(inside.Monotonic), Boottime: timespec(inside.Boottime)}
}

func timespec(d time.Duration) *timens.Timespec {
	return &timens.Timespec{TvSec: proto.Uint64(uint64(d / time.Second)), TvNsec: proto.Uint64(uint64(d % time.Second))}
}

// Offsets are what a new time namespace needs for its clocks to go on as
// saved; now are the clocks without any offset (Now).
func Offsets(e *timens.TimensEntry, now Clocks) Clocks {
	return Clocks{duration(e.GetMonotonic()) - now.Monotonic, duration(e.GetBoottime()) - now.Boottime}
}

func duration(t *timens.Timespec) time.Duration {
	return time.Duration(t.GetTvSec())*time.Second + time.Duration(t.GetTvNsec())
}

// Text is what is written into /proc/self/timens_offsets: a line a clock,
// seconds and nanoseconds, of which the latter are never negative.
func (c Clocks) Text() string {
	line := func(clock string, d time.Duration) string {
		sec, nsec := d/time.Second, d%time.Second
		if nsec < 0 {
			sec, nsec = sec-1, nsec+time.Second
		}
		return fmt.Sprintf("%s %d %d\n", clock, sec, nsec)
	}
	return line("monotonic", c.Monotonic) + line("boottime", c.Boottime)
}

// Now are the clocks of the first time namespace, whichever one ckpt is in.
func Now() (Clocks, error) {
	own, err := offsetsOf(os.Getpid())
	if err != nil {
		return Clocks{}, err
	}
	var mono, boot unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &mono); err != nil {
		return Clocks{}, fmt.Errorf("read CLOCK_MONOTONIC: %w", err)
	}
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot); err != nil {
		return Clocks{}, fmt.Errorf("read CLOCK_BOOTTIME: %w", err)
	}
	return Clocks{time.Duration(mono.Nano()) - own.Monotonic, time.Duration(boot.Nano()) - own.Boottime}, nil
}

func offsetsOf(pid int) (Clocks, error) {
	p, err := procfs.Open(pid)
	if err != nil {
		return Clocks{}, err
	}
	defer p.Close()
	c, err := kind.ClockOffsets(p)
	return Clocks(c), err
}

// Read finds the saved clocks; nil when the image has none. CRIU calls the
// file timens-0.img where the processes were in the first time namespace.
func Read(r *image.Reader, ids *criu_core.TaskKobjIdsEntry) (*timens.TimensEntry, error) {
	for _, id := range []string{strconv.FormatUint(uint64(ids.GetTimeNsId()), 10), "0"} {
		if !r.Has(image.TimeNS, id) {
			continue
		}
		e, err := image.One[*timens.TimensEntry](r, image.TimeNS, id)
		if err != nil {
			return nil, err
		}
		for _, t := range []*timens.Timespec{e.GetMonotonic(), e.GetBoottime()} {
			// The kernel takes no clock beyond KTIME_SEC_MAX/2, about 146 years.
			if t.GetTvSec() > math.MaxInt64/uint64(time.Second)/2 || t.GetTvNsec() >= uint64(time.Second) {
				return nil, failure.Damagedf("%s has a clock at %d s %d ns", image.TimeNS.Name(id), t.GetTvSec(), t.GetTvNsec())
			}
		}
		return e, nil
	}
	return nil, nil
}
