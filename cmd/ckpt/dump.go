package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"ckpt/container"
	"ckpt/dump"
	"ckpt/failure"
	"ckpt/pidns"
)

type dumpOptions struct {
	leaveRunning bool
	pid          int
	parent       string
	json         bool
}

func newDumpCommand(a *app) *cobra.Command {
	var o dumpOptions
	cmd := &cobra.Command{
		Use:   "dump NAME DIR",
		Short: "Save a container into a directory; it ends once the image is safe",
		Long: `Save the whole running container into DIR, which must be absent or empty. The
container ends once the image is whole and on disk. If the dump fails, or is
interrupted, the container goes on as it was and DIR is not written.`,
		Example: `  ckpt dump train ./tonight`,
		Args:    args("", "NAME", "DIR"),
		RunE:    func(cmd *cobra.Command, args []string) error { return runDump(cmd.Context(), a, o, args) },
	}
	f := cmd.Flags()
	f.BoolVar(&o.leaveRunning, "leave-running", false, "the container goes on")
	f.IntVar(&o.pid, "pid", 0, "save the tree of this host `PID` instead of a container")
	f.StringVar(&o.parent, "parent", "", "save only what changed since the image `DIR0`")
	f.BoolVar(&o.json, "json", false, "print JSON")
	cmd.Args = func(cmd *cobra.Command, as []string) error {
		if cmd.Flags().Changed("pid") {
			return args("", "DIR")(cmd, as)
		}
		return args("", "NAME", "DIR")(cmd, as)
	}
	return cmd
}

func runDump(ctx context.Context, a *app, o dumpOptions, args []string) error {
	switch {
	case o.pid != 0:
		return notYet("dump --pid: saving processes that ckpt did not start", "start them with ckpt start")
	case o.parent != "":
		return notYet("dump --parent: saving only what changed", "leave it out: a whole dump works")
	}
	c, err := a.find(args[0])
	if err != nil {
		return err
	}
	src, err := dumpSource(c)
	if err != nil {
		return err
	}
	log, err := a.logger()
	if err != nil {
		return err
	}
	dir, err := filepath.Abs(args[1])
	if err != nil {
		return err
	}
	lock, err := c.DumpLock()
	if err != nil {
		return err
	}
	defer lock.Close()
	res, err := dump.Run(ctx, src, dump.Options{Dir: dir, LeaveRunning: o.leaveRunning, Log: log,
		Commit: func(dir string) error { return c.MarkDumped(dir) }})
	if err != nil {
		return dumpFailed(err, c.Name)
	}
	if !o.leaveRunning {
		// Nothing can be taken back any more.
		if err := c.WaitEnd(context.WithoutCancel(ctx)); err != nil {
			return err
		}
	}
	if o.json {
		return a.printJSON(dumpJSON{c.Name, dir, res})
	}
	a.say("%s: saved in %s (%s, frozen %s, %s)", c.Name, args[1], bytesText(res.Bytes), tookText(res.Frozen), tookText(res.Total))
	return nil
}

type dumpJSON struct {
	Name  string `json:"name"`
	Image string `json:"image"`
	*dump.Result
}

// dumpFailed adds what the user wants to know first after a dump that failed.
func dumpFailed(err error, name string) error {
	if errors.Is(err, failure.ErrInterrupted) {
		return failure.Mark(failure.ErrInterrupted, fmt.Errorf("dump %s: interrupted; it goes on as it was", name))
	}
	return err
}

// dumpSource is what the driver has to know of a container that is alive.
func dumpSource(c *container.Container) (dump.Source, error) {
	if err := c.MustLive(); err != nil {
		return dump.Source{}, err
	}
	return dump.Source{Name: c.Name, Command: c.Command, Root: pidns.HostPID(c.Init),
		MainVPID: pidns.VPID(c.MainVPID), NoInit: c.NoInit, OwnNet: c.OwnNet, Key: c.Key, LogPath: c.Log()}, nil
}
