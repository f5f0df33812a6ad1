package main

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"ckpt/console"
	"ckpt/container"
	"ckpt/dump"
	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/pidns"
)

type dumpOptions struct {
	leaveRunning bool
	tcp          outside
	external     []string
	pid          hostPID
	parent       fileName
	compress     compression
	seal         sealFlags
	keys         keyFlags // of the parent
	json         bool
}

func newDumpCommand(a *app) *cobra.Command {
	var o dumpOptions
	cmd := &cobra.Command{
		Use:   "dump {NAME | --pid PID} DIR",
		Short: "Save a container into a directory; it ends once the image is safe",
		Long: `Save the whole running container into DIR, which must be absent or empty. The
container ends once the image is whole and on disk. If the dump fails, or is
interrupted, the container goes on as it was and DIR is not written.

TCP connections whose other end is outside stand in the way, unless --tcp says
what to do with them. keep: they go on after the restore. Until then nftables
rules of ckpt's drop their packets, so that the other ends wait, for as long as
they are made to (minutes, if they have something to send). It takes root, and a
restore on this machine or one with the same address. close: they are saved as
closed by the other end; a program that reads finds what it had received, then
ECONNRESET.

A unix socket that is connected to one outside stands in the way, too, unless
--external unix:PATH names that (unix:@NAME if it is abstract): then the restore
connects it anew to whoever has the name, for whom it is a new client. What had
been sent has arrived, and what comes after the dump is lost.

With --pid PID instead of NAME, save a process that ckpt did not start, and all
that descend from it. A restore brings them back in a container of their own,
named after the program, with the ids they have now. What they had with
processes outside is not there: their parent is then pid 1, sessions and
groups led from outside have no leader. Where more hangs on the outside (a
terminal, a pipe), it is refused: ckpt check --pid PID tells beforehand.

With --parent DIR0, memory that is as it is in the image DIR0 is not written
again. The new image needs DIR0, where it is, for as long as it lives, and may be
the parent of the next. Both can be moved together.

With - instead of DIR, the image is written to standard output as one stream, a
tar(1) archive of that directory: ckpt dump train - | ssh host ckpt restore -
moves a container. Until it is written it is kept in a file without a name in
TMPDIR (/var/tmp), which must have room for it. The container ends once all of it
is written; whether the other side brings it back, ckpt cannot know: use
--leave-running, or keep a copy (tee), where that must not fail.

An image holds all secrets of the programs in it. --encrypt encrypts each of its files
for a recipient of age(1), or an SSH key; restore --identity opens it. --sign signs it
by an ed25519 key, and restore --verify-key takes no other. --identity and
--verify-key here are for the image that --parent names.

--compress makes the image smaller. Programs that read CRIU's images can use it
once zstd -d has unpacked its pages files.`,
		Example: `  ckpt dump train ./tonight
  ckpt dump train ./tomorrow --parent ./tonight
  ckpt dump --pid 48213 ./tonight
  ckpt dump train - --compress | ssh host ckpt restore -`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if o.external, err = parseExternals("dump", o.external); err != nil {
				return err
			}
			if o.parent == "" && o.keys.given() {
				return usage(errors.New("dump: --identity and --verify-key are for the image that --parent names, and there is none"),
					"leave them out; --encrypt RECIPIENT encrypts the new image, --sign FILE signs it")
			}
			if cmd.Flags().Changed("pid") {
				return dumpTree(cmd.Context(), a, o, args[0])
			}
			return dumpContainer(cmd.Context(), a, o, args[0], args[1])
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.leaveRunning, "leave-running", false, "the container goes on")
	f.Var(&o.tcp, "tcp", "TCP connections that lead out: `keep` them, or save them as closed (close)")
	f.StringArrayVar(&o.external, "external", nil, externalUsage)
	f.Var(&o.pid, "pid", "save the process with this host `PID`, and all below it, instead of a container")
	f.Var(&o.parent, "parent", "write only memory that is not as in the image `DIR0`")
	f.Var(&o.compress, "compress", "compress memory (zstd): fastest, default, better or best `LEVEL`")
	f.Lookup("compress").NoOptDefVal = "default"
	o.seal.add(cmd)
	o.keys.add(cmd)
	f.BoolVar(&o.json, "json", false, "print JSON")
	cmd.Args = func(cmd *cobra.Command, as []string) error {
		want := []string{"NAME", "DIR"}
		if cmd.Flags().Changed("pid") {
			want = want[1:]
		}
		level := slices.IndexFunc(as, isCompression)
		switch {
		case len(as) > len(want) && level >= 0 && cmd.Flags().Changed("compress"):
			return usage(fmt.Errorf("dump: there is no use for %q", as[level]), "a level of compression stands behind an equals sign: --compress="+as[level])
		case len(want) == 1 && len(as) == 2:
			return usage(errors.New("dump: --pid stands instead of a name"), "usage: ckpt dump --pid PID DIR")
		}
		return args("", want...)(cmd, as)
	}
	return cmd
}

func dumpContainer(ctx context.Context, a *app, o dumpOptions, name, to string) error {
	c, err := a.find(name)
	if err != nil {
		if _, other := a.find(to); other == nil {
			err = failure.WithHint(err, fmt.Sprintf("%s is a container, and its name stands first: ckpt dump %s %s", to, to, failure.Quote(name)))
		}
		return err
	}
	src, giveBack, err := dumpSource(c)
	if err != nil {
		return err
	}
	defer giveBack()
	lock, err := c.DumpLock()
	if err != nil {
		return err
	}
	defer lock.Close()
	if to != stdio {
		dir, err := filepath.Abs(to)
		if err != nil {
			return err
		}
		if err := c.NoteImage(dir); err != nil {
			return err
		}
	}
	res, err := runDump(ctx, a, o, src, to, c)
	if err != nil {
		return err
	}
	if !o.leaveRunning {
		if err := waitEnd(ctx, c); err != nil {
			return notEnded(err, name, to)
		}
	}
	return dumped(a, o, src.Name, to, res)
}

// waitEnd waits for the end of a container that was saved. Nothing can be taken
// back any more: an interruption that came too late is none, but one that comes
// now ends the waiting.
func waitEnd(ctx context.Context, c *container.Container) error {
	ctx, stop := signal.NotifyContext(context.WithoutCancel(ctx), interruptions()...)
	defer stop()
	return c.WaitEnd(ctx)
}

// notEnded tells of a container that was saved, and not seen to end. It is no
// interruption to a script (exit code 130), upon which all is as it was.
func notEnded(err error, name, to string) error {
	if errors.Is(err, failure.ErrInterrupted) {
		err = failure.WithHint(errors.New("interrupted"), "look whether it has: ckpt ps "+name)
	}
	return &failure.Error{Doing: "dump " + name, Err: fmt.Errorf("the image in %s is whole, but not all of %s has ended: %w", to, name, err)}
}

// dumpTree saves processes that are in no container.
func dumpTree(ctx context.Context, a *app, o dumpOptions, to string) error {
	src, err := a.adopt(int(o.pid))
	if err != nil {
		return &failure.Error{Doing: "dump", Err: err}
	}
	res, err := runDump(ctx, a, o, src, to, nil)
	if err != nil {
		return err
	}
	return dumped(a, o, src.Name, to, res)
}

// runDump saves src; c is nil where it is no container.
func runDump(ctx context.Context, a *app, o dumpOptions, src dump.Source, to string, c *container.Container) (*dump.Result, error) {
	log, err := a.logger()
	if err != nil {
		return nil, err
	}
	opts := dump.Options{LeaveRunning: o.leaveRunning, Outside: kind.Outside(o.tcp), External: o.external, Log: log}
	if to == stdio {
		opts.Stream, err = streamOut(o.json, o.leaveRunning)
	} else {
		opts.Dir, err = filepath.Abs(to)
	}
	if err != nil {
		return nil, err
	}
	parent, err := openParent(ctx, a, o.keys, string(o.parent))
	if err != nil {
		return nil, err
	}
	if parent != nil {
		defer parent.Close()
	}
	opts.Image = image.Options{Parent: parent, Compress: image.Level(o.compress)}
	if opts.Image.Encrypt, opts.Image.Sign, err = o.seal.keys(); err != nil {
		return nil, err
	}
	if parent != nil && parent.Encrypted() && len(opts.Image.Encrypt) == 0 {
		log.Warn("the image will not be encrypted, as its parent is: it shows what has changed since (--encrypt)", "parent", string(o.parent))
	}
	table := ""
	opts.Leave = func(name string) error {
		table = name
		if c == nil {
			return nil
		}
		return c.LeaveTable(name)
	}
	if c != nil {
		opts.Commit = c.MarkDumped
	}
	shown := a.wait("dump", src.Name)
	opts.Image.Progress = shown.here
	res, err := dump.Run(ctx, src, opts)
	shown.end()
	if err != nil {
		return nil, dumpFailed(err, src.Name)
	}
	if table != "" {
		log.Info("the other ends of its connections wait until it is restored", "nftables table", table)
	}
	return res, nil
}

func dumped(a *app, o dumpOptions, name, to string, res *dump.Result) error {
	if o.json {
		dir, err := filepath.Abs(to)
		if err != nil {
			return err
		}
		return a.printJSON(dumpJSON{name, dir, res})
	}
	size := bytesText(res.Stored)
	if res.Unchanged > 0 {
		size += fmt.Sprintf(", and %s unchanged in %s", bytesText(res.Unchanged), o.parent)
	}
	text := fmt.Sprintf("%s: saved in %s (%s, frozen %s, %s)", name, to, size, tookText(res.Frozen), tookText(res.Total))
	if to != stdio {
		a.say("%s", text)
	} else if !a.global.quiet {
		fmt.Fprintln(a.err, strings.Replace(text, "saved in -", "written", 1))
	}
	return nil
}

// openParent opens the image that the new one is to be made after; nil for none.
func openParent(ctx context.Context, a *app, keys keyFlags, dir string) (*image.Reader, error) {
	if dir == "" {
		return nil, nil
	}
	r, err := keys.open(ctx, a, "dump --parent", dir)
	switch {
	case dir == stdio:
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("dump --parent: %w", err)
	}
	if r.Manifest() == nil {
		_ = r.Close()
		return nil, usage(fmt.Errorf("dump --parent %s: the image is one of criu's, after which ckpt makes none", dir), "leave it out for a whole dump")
	}
	return r, nil
}

type dumpJSON struct {
	Name  string `json:"name"`
	Image string `json:"image"`
	*dump.Result
}

// dumpFailed adds what the user wants to know first after a dump that failed.
func dumpFailed(err error, name string) error {
	if errors.Is(err, failure.ErrInterrupted) {
		return undone(err, "dump "+name, "it goes on as it was")
	}
	return err
}

// dumpSource is what the driver has to know of a container that is alive. Its terminal
// is borrowed until giveBack.
func dumpSource(c *container.Container) (src dump.Source, giveBack func(), err error) {
	giveBack = func() {}
	if err := c.MustLive(); err != nil {
		return src, giveBack, err
	}
	src = dump.Source{Name: c.Name, Command: c.Command, Root: pidns.HostPID(c.Init),
		MainVPID: pidns.VPID(c.MainVPID), NoInit: c.NoInit, OwnNet: c.OwnNet, Key: c.Key, LogPath: c.Log(), SessionKeyring: c.SessionKeyring, Schedule: inImage(c.Schedule)}
	if !c.Terminal {
		return src, giveBack, nil
	}
	conn, err := c.DialTerminal()
	if err != nil {
		return src, giveBack, &failure.Error{Doing: "dump " + c.Name, Err: err}
	}
	loan, err := console.Borrow(conn)
	if err != nil {
		return src, giveBack, &failure.Error{Doing: "dump " + c.Name, Err: err}
	}
	src.Console = &dump.Console{Master: loan.Master, Hold: loan.Hold, Release: loan.Release}
	return src, loan.Close, nil
}
