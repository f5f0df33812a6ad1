package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"ckpt/console"
	"ckpt/container"
	"ckpt/failure"
	"ckpt/series"
)

type startOptions struct {
	net      string
	noInit   bool
	hostname string
	env      []string
	terminal bool
	attach   bool
	resume   bool
	schedule scheduleFlags
	saves    saveFlags
}

func newStartCommand(a *app) *cobra.Command {
	var o startOptions
	cmd := &cobra.Command{
		Use:   "start NAME [flags] [-- CMD [ARG...]]",
		Short: "Make a container and run a command in it, in the background",
		Long: `Make a container and run a command in it, in the background, with this
directory, environment, umask and limits. Its first pid inside is 2: pid 1 is a
tiny init that ckpt brings along. The container ends when the command ends.

What the container writes to standard output and error goes to its log; its
standard input is empty. With -t it has a terminal, which ckpt attach shows; with
-a, too, that is this one at once. Without a command it is your shell on this
terminal ($SHELL; as -t -a). ctrl-p ctrl-q detaches.

With --foreground, ckpt prints it as well, stays until
the container ends, passes SIGTERM on to the command, and exits with its status.

With --every, a process of ckpt stays beside the container and saves it into the
directory of --to again and again, while it goes on: the last --keep images are kept,
and those that they need, since most hold only what has changed. With --on-term,
SIGTERM to that process (with --foreground: to ckpt) saves it and ends it; if that
fails, or takes longer, the command gets SIGTERM. ckpt ps NAME tells when it was
saved last, and why the last dump failed. It is the same after a restore; that of
the newest image is ckpt restore --latest DIR, or this start with --resume. The flags
from --tcp to --verify-key are those of ckpt dump, for each image; --identity and
--verify-key are for the image before.`,
		Example: `  ckpt start train -- python3 train.py --epochs 500
  ckpt logs -f train
  ckpt start work
  ckpt start train --every 10m --on-term --to ./saves -- python3 train.py`,
		Args: args("CMD", "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error { return runStart(a, cmd, o, args) },
	}
	f := cmd.Flags()
	f.StringVar(&o.net, "net", "host", "network: host (the host's) or none (its own, with a loopback interface only)")
	f.BoolVar(&o.noInit, "no-init", false, "the command itself is pid 1 inside")
	f.StringVar(&o.hostname, "hostname", "", "host name inside (default: the host's)")
	f.StringArrayVarP(&o.env, "env", "e", nil, "set an environment variable, `NAME=VALUE` (may be repeated)")
	o.schedule.add(cmd)
	f.BoolVar(&o.resume, "resume", false, "if there are images in the directory of --to, restore the newest instead")
	o.saves.add(cmd)
	f.BoolVarP(&o.terminal, "terminal", "t", false, "give it a terminal of its own")
	f.BoolVarP(&o.attach, "attach", "a", false, "show it on this terminal (with -t)")
	return cmd
}

func runStart(a *app, cmd *cobra.Command, o startOptions, args []string) error {
	before, argv, _ := split(cmd, args)
	name := before[0]
	if err := container.CheckName(name); err != nil {
		return err
	}
	if len(argv) == 0 {
		argv, o.terminal, o.attach = []string{cmp.Or(a.getenv("SHELL"), "/bin/sh")}, true, true
	}
	switch {
	case o.attach && !o.terminal:
		return usage(errors.New("start: -a shows a terminal, and the container is to have none"), "give it one: ckpt start -t -a "+name+" -- "+quoted(argv),
			"or follow what it writes: ckpt start "+name+" -- "+quoted(argv)+"; ckpt logs -f "+name)
	case len(o.hostname) > maxHostname:
		return usage(fmt.Errorf("start: --hostname has %d bytes", len(o.hostname)), "a host name has up to 64 bytes")
	case o.net != "host" && o.net != "none":
		return usage(fmt.Errorf("start: --net %q is not a network", o.net), "networks are host and none")
	}
	schedule, err := o.schedule.over(cmd, nil)
	if err != nil {
		return err
	}
	flags, err := o.saves.list()
	if err != nil {
		return err
	}
	switch {
	case schedule != nil:
		schedule.Flags = flags
	case len(flags) > 0:
		return usage(fmt.Errorf("start: %s is about the images that --every or --on-term makes", flagOf(flags[0])), "leave it out; ckpt dump has it, too")
	case o.resume:
		return usage(errors.New("start: --resume is about the images that --every or --on-term makes"), "to bring back the newest image in a directory: ckpt restore --latest DIR")
	}
	if o.resume {
		if have, err := series.In(schedule.To); err == nil && len(have) > 0 {
			if a.global.detached == "" && !o.schedule.foreground {
				return a.detach(cmd.Context(), name, nil)
			}
			return restoreLatest(cmd.Context(), a, cmd, restoreOptions{name: name, schedule: o.schedule, keys: o.saves.keys, saved: schedule}, schedule.To)
		}
	}
	env, err := withEnv(os.Environ(), o.env)
	if err != nil {
		return err
	}
	path, err := container.LookPath(argv[0], env)
	if err != nil {
		return err
	}
	s, err := a.store(true)
	if err != nil {
		return err
	}
	level, err := a.global.level()
	if err != nil {
		return err
	}
	req := container.Request{
		State: s.Dir(), Name: name, Tasks: 1, Log: int(level), LogJSON: a.global.logFormat == "json", Schedule: schedule,
		Start: &container.StartRequest{Path: path, Command: argv, Env: env,
			Hostname: o.hostname, OwnNet: o.net == "none", NoInit: o.noInit},
	}
	if o.terminal {
		z := a.windowSize()
		req.Start.Terminal = &z
	}
	l := launch{name: name, of: name, schedule: schedule, foreground: o.schedule.foreground,
		run:    func(ctx context.Context) (*container.Answer, error) { return container.Launch(ctx, req, a.err) },
		failed: func(err error) error { return startFailed(err, name) },
		started: func(say *app, ans *container.Answer) error {
			say.say("%s: started, pid %d inside, %d on the host", name, ans.VPID, ans.PID)
			return nil
		}}
	if o.attach && a.global.detached == "" {
		return a.launchAttached(cmd.Context(), l, &req)
	}
	return a.launch(cmd.Context(), l)
}

// flagOf is the flag's name in "--name=value".
func flagOf(s string) string {
	name, _, _ := strings.Cut(s, "=")
	return name
}

// windowSize is that of this terminal, if there is one.
func (a *app) windowSize() console.Size {
	for _, f := range []any{a.out, a.in, a.err} {
		if f, ok := f.(*os.File); ok {
			if z := console.SizeOf(f); z != (console.Size{}) {
				return z
			}
		}
	}
	return console.Size{Rows: 24, Cols: 80}
}

// maxHostname is __NEW_UTS_LEN (sethostname(2)).
const maxHostname = 64

// startFailed makes hints fit the command that failed.
func startFailed(err error, name string) error {
	if errors.Is(err, failure.ErrNameTaken) || errors.Is(err, failure.ErrUsage) {
		return err
	}
	return &failure.Error{Doing: "start " + name, Err: err}
}

// withEnv sets the variables of set in env.
func withEnv(env, set []string) ([]string, error) {
	out := append([]string(nil), env...)
	for _, kv := range set {
		k, _, ok := strings.Cut(kv, "=")
		if !ok || k == "" {
			return nil, usage(fmt.Errorf("start: --env %q is not NAME=VALUE", kv), "for example: --env PYTHONUNBUFFERED=1")
		}
		kept := out[:0]
		for _, old := range out {
			if !strings.HasPrefix(old, k+"=") {
				kept = append(kept, old)
			}
		}
		out = append(kept, kv)
	}
	return out, nil
}
