// Package calls checks that a system call that waits never notices a dump or
// a restore: it gives what it would have given, when it would have.
package calls

import (
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"ckpt/e2e/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// returned is what e2e/program/calls.c tells of a call.
type returned struct {
	Call  string `json:"call"`
	Ret   int    `json:"ret"`
	Errno int    `json:"errno"`
	Late  int    `json:"late_ms"`
	Event bool   `json:"event"`
}

// result is what a call must give.
type result struct {
	ret   int
	errno syscall.Errno
}

// groups are the calls by what they wait for, with what each must give.
var groups = map[string]map[string]result{
	"sleep": {
		"nanosleep": {}, "nanosleep_norem": {}, "clock_nanosleep": {}, "clock_nanosleep_realtime": {}, "clock_nanosleep_abs": {},
		"clock_nanosleep_boottime_abs": {}, "clock_nanosleep_realtime_abs": {}, "select_nothing": {},
	},
	"futex": {
		"futex": {-1, syscall.ETIMEDOUT}, "futex_private": {-1, syscall.ETIMEDOUT}, "futex_abs": {-1, syscall.ETIMEDOUT},
		"futex_realtime": {-1, syscall.ETIMEDOUT}, "futex_wake": {}, "futex_lock_pi": {},
	},
	"poll": {
		"poll": {}, "poll_event": {ret: 1}, "ppoll": {}, "ppoll_event": {ret: 1}, "select": {}, "select_event": {ret: 1},
		"pselect": {}, "epoll_wait": {}, "epoll_wait_event": {ret: 1}, "epoll_pwait2": {},
	},
	"file": {
		"read_pipe": {ret: 1}, "write_pipe": {ret: 1}, "read_eventfd": {ret: 8}, "read_timerfd": {ret: 8},
		"read_signalfd": {ret: int(syscall.SIGUSR2)}, "read_inotify": {ret: 1}, "open_fifo": {ret: 1},
	},
	"socket": {
		"recv": {ret: 1}, "recv_timeout": {-1, syscall.EAGAIN}, "recvmsg": {ret: 1}, "send": {ret: 1}, "accept_unix": {ret: 1},
	},
	"tcp":    {"accept_tcp": {ret: 1}, "recv_udp": {ret: 1}},
	"ipc":    {"semop": {}, "semtimedop": {-1, syscall.EAGAIN}, "msgrcv": {ret: 1}, "msgsnd": {}},
	"mqueue": {"mq_receive": {ret: 1}, "mq_timedreceive": {-1, syscall.ETIMEDOUT}},
	"lock":   {"flock": {}, "ofd_lock": {}},
	"wait":   {"wait4": {ret: 42}, "waitid": {ret: 42}},
	"signal": {
		"sigtimedwait": {-1, syscall.EAGAIN}, "sigwaitinfo": {ret: 2},
		// A handler ends these two, and EINTR is how they say so.
		"pause": {-1, syscall.EINTR}, "sigsuspend": {-1, syscall.EINTR},
	},
}

// slack is how late a call may return on a machine that has other work.
const slack = 300 * time.Millisecond

// imprecise are calls whose timeout the kernel itself keeps badly: the timer
// wheel rounds by an eighth (kernel/time/timer.c).
var imprecise = map[string]time.Duration{"recv_timeout": 3 * time.Second / 8}

// onRealtime are calls that wait for a time of CLOCK_REALTIME, which goes on
// while the program does not exist; the clock they are measured with may not.
var onRealtime = map[string]bool{"clock_nanosleep_realtime_abs": true, "futex_realtime": true, "mq_timedreceive": true}

// modes are what happens to the program while its calls wait. Each returns
// the container in which it goes on.
var modes = map[string]func(c *harness.Container){
	"restored": generation,
	// A call that was made to go on may be another one to the kernel
	// (restart_syscall(2)), or wait for the rest of its time only.
	"restored twice": func(c *harness.Container) {
		generation(c)
		generation(c)
	},
	"left running": func(c *harness.Container) { c.Dump(c.Env.Join("image"), "--leave-running") },
}

func generation(c *harness.Container) {
	image := c.Env.Join(fmt.Sprintf("image%d", time.Now().UnixNano()))
	c.Dump(image)
	c.Env.Restore(image, "")
}

func TestCalls(t *testing.T) {
	for mode, during := range modes {
		for group, want := range groups {
			t.Run(mode+"/"+group, func(t *testing.T) {
				t.Parallel() // they wait most of the time
				e := harness.New(t, "")
				c := e.Start("calls", nil, harness.Program(t, "calls.c"), group)
				harness.Eventually(t, "every call waits", func() error { return has(c, "ready") })
				asleep(t, c)
				begin := time.Now()
				during(c)
				gap := time.Since(begin)
				harness.Eventually(t, "every call returns", func() error { return has(c, "done") })
				for _, err := range compare(c.Log(), want, gap) {
					t.Error(err)
				}
			})
		}
	}
}

func has(c *harness.Container, line string) error {
	if !strings.Contains(c.Log(), line+"\n") {
		if err := c.Alive(); err != nil {
			return err
		}
		return fmt.Errorf("it has not said %q but %q", line, c.Log())
	}
	return nil
}

// asleep waits until every thread is in its call.
func asleep(t *testing.T, c *harness.Container) {
	harness.Eventually(t, "every thread sleeps", func() error {
		for _, p := range c.Ps().Processes {
			for _, th := range p.Threads {
				if s, err := harness.ThreadState(p.PID, th.TID); err != nil || s != 'S' {
					return fmt.Errorf("thread %d is in state %c (%v)", th.VTID, s, err)
				}
			}
		}
		return nil
	})
}

// roomier are calls that wait for room: how much the same contents take is the
// kernel's business (it counts buffers, not bytes), and a restored socket may
// have some to spare at once.
var roomier = map[string]bool{"send": true}

// compare reads what the program told after its calls went through a gap.
func compare(log string, want map[string]result, gap time.Duration) []error {
	var errs []error
	seen := map[string]bool{}
	for line := range strings.Lines(log) {
		if line == "ready\n" || line == "done\n" {
			continue
		}
		var r returned
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			errs = append(errs, fmt.Errorf("the program wrote %q", line))
			continue
		}
		w, ok := want[r.Call]
		if !ok || seen[r.Call] {
			errs = append(errs, fmt.Errorf("%s: returned, but should not have: %s", r.Call, line))
			continue
		}
		seen[r.Call] = true
		if r.Ret != w.ret || syscall.Errno(r.Errno) != w.errno {
			errs = append(errs, fmt.Errorf("%s gave %d (%s) instead of %d (%s)", r.Call, r.Ret, text(r.Errno), w.ret, text(int(w.errno))))
		}
		// While it did not exist, time went by: a relative timeout is that
		// much later on a clock that went on, an absolute one is not.
		least, most := time.Duration(0), slack+imprecise[r.Call]
		if onRealtime[r.Call] {
			least = -gap
		}
		if roomier[r.Call] {
			continue
		}
		if !r.Event && !strings.HasSuffix(r.Call, "_abs") && !onRealtime[r.Call] && r.Call != "read_timerfd" {
			most += gap
		}
		if late := time.Duration(r.Late) * time.Millisecond; late < least || late > most {
			errs = append(errs, fmt.Errorf("%s returned %v late, allowed is from %v to %v (%v from dump to restore)", r.Call, late, least, most, gap))
		}
	}
	for call := range want {
		if !seen[call] {
			errs = append(errs, fmt.Errorf("%s never returned", call))
		}
	}
	return errs
}

func text(errno int) string {
	if errno == 0 {
		return "no error"
	}
	return syscall.Errno(errno).Error()
}

func TestCompare(t *testing.T) {
	want := map[string]result{"poll": {}, "clock_nanosleep_abs": {}}
	good := `{"call":"clock_nanosleep_abs","ret":0,"errno":0,"late_ms":5,"event":false}` + "\n"
	tests := []struct{ name, log, want string }{
		{"good", "ready\n" + `{"call":"poll","ret":0,"errno":0,"late_ms":900,"event":false}` + "\n" + good + "done\n", ""},
		{"EINTR", `{"call":"poll","ret":-1,"errno":4,"late_ms":10,"event":false}` + "\n" + good, "interrupted system call"},
		{"early", `{"call":"poll","ret":0,"errno":0,"late_ms":-1,"event":false}` + "\n" + good, "returned -1ms late"},
		{"slept anew", `{"call":"poll","ret":0,"errno":0,"late_ms":2500,"event":false}` + "\n" + good, "returned 2.5s late"},
		{"absolute, yet later", `{"call":"poll","ret":0,"errno":0,"late_ms":0,"event":false}` + "\n" + strings.Replace(good, ":5,", ":900,", 1), "returned 900ms late"},
		{"missing", good, "poll never returned"},
		{"twice", good + good + `{"call":"poll","ret":0,"errno":0,"late_ms":0,"event":false}` + "\n", "should not have"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := fmt.Sprint(compare(tt.log, want, time.Second))
			if tt.want == "" && got != "[]" || !strings.Contains(got, tt.want) {
				t.Errorf("got %s, want %q", got, tt.want)
			}
		})
	}
}
