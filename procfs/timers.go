package procfs

import (
	"bytes"
	"fmt"
)

// How a POSIX timer tells that it expired (sigevent(3type)).
const (
	NotifySignal   = 0 // SIGEV_SIGNAL
	NotifyNone     = 1 // SIGEV_NONE
	NotifyThread   = 2 // SIGEV_THREAD, which the C library makes from NotifyThreadID
	NotifyThreadID = 4 // SIGEV_THREAD_ID
)

// Timer is one POSIX timer of /proc/PID/timers (timer_create(2)).
type Timer struct {
	ID      int
	Signal  int
	Value   uint64 // sigev_value
	Notify  int    // Notify*
	Target  int    // host id of the process, or with NotifyThreadID of the thread; 0: not in this pid namespace
	ClockID int    // negative: a CPU clock or a device's, clock_getcpuclockid(3)
}

// Timers reads /proc/PID/timers, by ascending id. There is no such file
// without CONFIG_CHECKPOINT_RESTORE or CONFIG_POSIX_TIMERS (ENOENT).
func (p *Proc) Timers() ([]Timer, error) {
	b, err := p.read("timers", make([]byte, 0, 1024))
	if err != nil {
		return nil, err
	}
	ts, err := parseTimers(b)
	return ts, p.parseErr("timers", err)
}

// parseTimers: four lines a timer, the newest first.
func parseTimers(b []byte) ([]Timer, error) {
	var out []Timer
	for len(b) > 0 {
		var l []byte
		if l, b = line(b); len(l) == 0 {
			continue
		}
		key, v, _ := bytes.Cut(l, []byte(": "))
		if string(key) == "ID" {
			out = append(out, Timer{})
		}
		if len(out) == 0 {
			return nil, fmt.Errorf("%q before the first id", l)
		}
		if err := out[len(out)-1].set(string(key), v); err != nil {
			return nil, fmt.Errorf("%q: %w", l, err)
		}
	}
	for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
		out[i], out[j] = out[j], out[i]
	}
	return out, nil
}

func (t *Timer) set(key string, v []byte) error {
	var n int64
	var err error
	switch key {
	case "ID":
		n, err = intOf(v)
		t.ID = int(n)
	case "ClockID":
		n, err = intOf(v)
		t.ClockID = int(n)
	case "signal":
		sig, val, ok := bytes.Cut(v, []byte("/"))
		if !ok {
			return fmt.Errorf("no value")
		}
		if n, err = intOf(sig); err != nil {
			return err
		}
		t.Signal = int(n)
		t.Value, err = uintOf(val, 16)
	case "notify":
		return t.setNotify(v)
	}
	return err
}

func (t *Timer) setNotify(v []byte) error {
	how, whom, _ := bytes.Cut(v, []byte("/"))
	who, id, ok := bytes.Cut(whom, []byte("."))
	if !ok {
		return fmt.Errorf("no target")
	}
	switch string(how) {
	case "signal":
		t.Notify = NotifySignal
	case "none":
		t.Notify = NotifyNone
	case "thread":
		t.Notify = NotifyThread
	default:
		return fmt.Errorf("unknown way %q", how)
	}
	if string(who) == "tid" {
		t.Notify |= NotifyThreadID
	}
	n, err := intOf(id)
	t.Target = int(n)
	return err
}
