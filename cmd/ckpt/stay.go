package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"

	"golang.org/x/sys/unix"

	"ckpt/container"
	"ckpt/failure"
	"ckpt/series"
)

// launch is a start or a restore, and what comes after it.
type launch struct {
	name       string
	schedule   *container.Schedule // nil: it is not saved by itself
	ownImages  bool                // those in the schedule's directory are the container's own
	oldLog     bool                // what the log has already stays in it
	foreground bool
	of         string   // for the process that stays, if that is another one; see detach
	in         *os.File // its standard input; nil: nothing
	run        func(context.Context) (*container.Answer, error)
	failed     func(error) error // gives the error of run its words
	started    func(*app, *container.Answer) error
}

// detaches tells whether another process does it, and stays.
func (l launch) detaches(a *app) bool {
	return l.schedule != nil && !l.foreground && a.global.detached == ""
}

// launch starts or restores a container; who types the command waits until it runs,
// or, in the foreground, until it ends.
func (a *app) launch(ctx context.Context, l launch) error {
	switch {
	case l.detaches(a):
		return a.detach(ctx, l.of, l.in)
	case l.foreground, l.schedule != nil:
		return a.stay(ctx, l)
	}
	ans, err := l.run(ctx)
	if err != nil {
		return l.failed(err)
	}
	return l.started(a, ans)
}

// stay launches a container and stays until it has ended.
func (a *app) stay(ctx context.Context, l launch) error {
	// Who reads what it writes may go: that is no reason to end.
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE)
	log, err := a.logger()
	if err != nil {
		return err
	}
	st, err := a.store(true)
	if err != nil {
		return err
	}
	k := &keeper{a: a, log: log, schedule: l.schedule, foreground: l.foreground}
	say := *a
	if l.foreground {
		say.out = a.err // standard output is the container's
	}
	if l.oldLog {
		k.from = logSize(st, l.name)
	}
	if l.schedule != nil {
		if err := st.Free(l.name); err != nil {
			return l.failed(err)
		}
		if k.series, err = openSeries(l); err != nil {
			return &failure.Error{Doing: "save " + l.name, Err: err}
		}
		defer k.series.Close()
	}
	up := a.parent()
	until, cancel := up.until(ctx)
	ans, err := l.run(until)
	cancel()
	if err == nil {
		err = k.begin(st, l.name)
		if err == nil {
			err = l.started(&say, ans)
		}
		if err == nil {
			err = up.leave()
		}
		if err != nil && k.c != nil {
			err = errors.Join(err, k.c.Remove(context.WithoutCancel(ctx), true))
		}
	}
	if err != nil {
		err = l.failed(err)
		if k.series != nil {
			err = errors.Join(err, k.series.Undo())
		}
		return err
	}
	if up != nil && (l.schedule == nil || l.schedule.OnTerm == 0) {
		ctx = context.WithoutCancel(ctx) // it is there as long as the container, like the supervisor
	}
	return k.stay(ctx)
}

// openSeries takes the directory for the images. Those of another container, or of an
// earlier one of that name, would be removed in time: that is refused.
func openSeries(l launch) (*series.Series, error) {
	s, err := series.Open(l.schedule.To)
	if err != nil {
		return nil, err
	}
	have, err := series.In(s.Path())
	if err == nil && len(have) > 0 && !l.ownImages {
		err = failure.WithHint(fmt.Errorf("there are images in %s, of another container or of an earlier start, which would be replaced", s.Path()),
			"go on from the newest: ckpt restore --latest "+failure.Quote(s.Path()), "or name another directory: --to DIR")
	}
	if err != nil {
		return nil, errors.Join(err, s.Undo())
	}
	return s, nil
}

// logSize is how much the log has of an earlier container of that name, which a
// restore leaves in it.
func logSize(st *container.Store, name string) int64 {
	fi, err := os.Stat(filepath.Join(st.Dir(), name, "log"))
	if err != nil {
		return 0
	}
	return fi.Size()
}
