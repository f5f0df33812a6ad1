package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ckpt/container"
	"ckpt/dump"
	"ckpt/failure"
	"ckpt/series"
)

// keeper stays with a container that runs.
type keeper struct {
	a          *app
	log        *slog.Logger
	c          *container.Container
	foreground bool
	from       int64               // of the log: what stood before is not this container's
	schedule   *container.Schedule // nil: it is not saved by itself
	series     *series.Series
	saver      *container.Saver
	saves      container.Saves
}

// begin finds the container that was launched.
func (k *keeper) begin(st *container.Store, name string) (err error) {
	if k.c, err = st.Get(name); err != nil || k.schedule == nil {
		return err
	}
	if k.saver, err = k.c.BeSaver(); err != nil {
		return err
	}
	return k.saver.Note(k.saves)
}

// end is how a container has ended.
type end struct {
	exit *container.Exit
	err  error
}

// stay saves the container as the schedule says until it has ended, and passes its
// status on; ctx ends with a signal that tells ckpt to end.
func (k *keeper) stay(ctx context.Context) error {
	if k.saver != nil {
		defer k.saver.Close()
	}
	ended, err := k.watch()
	if err != nil {
		return err
	}
	written := k.follow()
	var due <-chan time.Time
	again := func() {
		if k.schedule != nil && k.schedule.Every > 0 {
			due = time.After(k.schedule.Every)
		}
	}
	again()
	for {
		select {
		case e := <-ended:
			<-written
			return e.status()
		case <-ctx.Done():
			err := k.told(ended)
			<-written
			return err
		case <-due:
			k.save(ctx)
			again()
		}
	}
}

// watch tells of the end of the container.
func (k *keeper) watch() (<-chan end, error) {
	c, err := k.a.find(k.c.Name) // one of its own, since it is read again and again
	if err != nil {
		return nil, err
	}
	ended := make(chan end, 1)
	go func() {
		e, err := c.Wait(context.Background())
		ended <- end{e, err}
	}()
	return ended, nil
}

func (e end) status() error {
	if e.err != nil {
		return e.err
	}
	return statusError(e.exit.Status())
}

// follow prints what the container writes, in the foreground, until it has ended.
func (k *keeper) follow() <-chan struct{} {
	done := make(chan struct{})
	if !k.foreground {
		close(done)
		return done
	}
	go func() {
		defer close(done)
		if err := k.c.FollowFrom(context.Background(), k.a.out, k.from); err != nil {
			k.log.Warn("what the container writes is not printed any more", "error", err, "log", k.c.Log())
		}
	}()
	return done
}

// told ends what is told to end: with a last dump, if the schedule has one. If that
// fails, or takes too long, and where there is none, the container's command is told
// in its turn. A second signal cuts the dump short.
func (k *keeper) told(ended <-chan end) error {
	if k.schedule != nil && k.schedule.OnTerm > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), k.schedule.OnTerm)
		defer cancel()
		ctx, stop := signal.NotifyContext(ctx, interruptions()...)
		defer stop()
		if k.last(ctx) {
			fmt.Fprintf(k.a.err, "%s: saved in %s\n", k.c.Name, k.saves.Last.Image)
			return nil
		}
	}
	if err := k.c.Kill(unix.SIGTERM); err != nil && !errors.Is(err, failure.ErrNoContainer) {
		k.log.Debug("SIGTERM was not passed on", "error", err)
	}
	return (<-ended).status()
}

// save saves the container, which goes on. What comes of it is noted.
func (k *keeper) save(ctx context.Context) bool { return k.noted(k.dump(ctx, "--leave-running")) }

// last saves the container, which ends with that.
func (k *keeper) last(ctx context.Context) bool { return k.noted(k.dump(ctx)) }

func (k *keeper) noted(made *container.Save, failed *container.Failed) bool {
	k.saves.Failed = failed
	if failed != nil {
		k.log.Warn("the container was not saved", "name", k.c.Name, "error", failed.Reason)
	} else {
		k.saves.Last = made
	}
	if err := k.saver.Note(k.saves); err != nil {
		k.log.Warn("what came of a dump was not noted", "name", k.c.Name, "error", err)
	}
	return failed == nil
}

// dump runs `ckpt dump`: a process of its own, so that nothing that may befall it befalls
// this one. The images before stay until the new one stands.
func (k *keeper) dump(ctx context.Context, flags ...string) (*container.Save, *container.Failed) {
	dir, after, err := k.series.Next(k.schedule.Keep, time.Now())
	if err != nil {
		return nil, &container.Failed{At: time.Now(), Reason: err.Error(), Hints: failure.Hints(err)}
	}
	if after != "" && !k.opens(ctx, after) {
		dir, after = series.Whole(dir), ""
	}
	args := append([]string{"ckpt", "dump", k.c.Name, dir, "--json"}, flags...)
	for _, f := range k.schedule.Flags {
		if after != "" || !forParent(f) {
			args = append(args, f)
		}
	}
	if after != "" {
		args = append(args, "--parent="+after)
	}
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args, cmd.Stdout, cmd.Stderr = args, &out, &errs
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for ckpt in the foreground
	err = cmd.Run()
	if p := cmd.ProcessState; p == nil || !p.Success() {
		return nil, reasonOf(ctx, errs.String(), err)
	}
	var res dump.Result
	if err := json.Unmarshal(out.Bytes(), &res); err != nil {
		k.log.Warn("what the dump said was not understood", "error", err)
	}
	made := &container.Save{At: time.Now(), Image: dir, Stored: res.Stored, Frozen: res.Frozen, Total: res.Total}
	if err := k.series.Saved(dir, k.schedule.Keep); err != nil {
		made.Left = oneLine(err.Error())
		k.log.Warn("something of earlier images is left", "error", made.Left)
	}
	return made, nil
}

// opens tells whether the next image can be made after dir: without the key of an
// encrypted one, or if it is damaged, a complete one is made.
func (k *keeper) opens(ctx context.Context, dir string) bool {
	keys := parentKeys(k.schedule.Flags)
	r, err := openParent(ctx, k.a, keys, dir)
	if err != nil {
		k.log.Info("the next image is complete, since the one before cannot be opened", "image", filepath.Base(dir), "error", err)
		return false
	}
	return r.Close() == nil
}

// reasonOf reads the errors and hints that a dump that failed has told (report).
func reasonOf(ctx context.Context, told string, err error) *container.Failed {
	f := &container.Failed{At: time.Now()}
	var reasons []string
	for line := range strings.Lines(told) {
		line = strings.TrimSpace(line)
		if r, ok := strings.CutPrefix(line, "ckpt: error: "); ok {
			reasons = append(reasons, r)
		}
		if h, ok := strings.CutPrefix(line, "ckpt: hint: "); ok {
			f.Hints = append(f.Hints, h)
		}
	}
	f.Reason = strings.Join(reasons, "; ")
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		f.Reason = "the time was not enough (--on-term)"
	case f.Reason == "" && err != nil:
		f.Reason = "ckpt dump: " + err.Error()
	}
	return f
}

// savesText tells a person of a container that is saved by itself.
func savesText(name string, s *container.Schedule, v container.Saves, now time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, "saved %s", scheduleText(s))
	if v.Saver != 0 {
		fmt.Fprintf(&b, ", by host pid %d", v.Saver)
	}
	if l := v.Last; l != nil {
		fmt.Fprintf(&b, "\n  last: %s ago, %s (%s, frozen %s)", upText(now.Sub(l.At)), filepath.Base(l.Image), bytesText(l.Stored), tookText(l.Frozen))
		if l.Left != "" {
			fmt.Fprintf(&b, "\n  something of earlier images is left: %s", l.Left)
		}
	}
	if f := v.Failed; f != nil {
		fmt.Fprintf(&b, "\n  failed %s ago: %s", upText(now.Sub(f.At)), oneLine(f.Reason))
		for _, h := range f.Hints {
			fmt.Fprintf(&b, "\n    -> %s", oneLine(h))
		}
	}
	if v.Saver == 0 {
		fmt.Fprintf(&b, "\n  not any more: the process of ckpt that did it was killed\n    -> save it yourself, and a restore of that image goes on with it: ckpt dump %s DIR", name)
	}
	return b.String() + "\n"
}
