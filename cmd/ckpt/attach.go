package main

import (
	"context"
	"errors"
	"net"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"ckpt/console"
	"ckpt/container"
	"ckpt/failure"
)

func newAttachCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "attach NAME",
		Short: "Make this terminal the container's",
		Long: `Make this terminal the container's: show what stands there, with the lines that
have scrolled away, and type into it. ctrl-p ctrl-q detaches: the container goes on, and
can be attached to from any terminal. Who was attached before is detached.

It ends with the command of the container, and exits with its status.`,
		Example: `  ckpt start work
  ckpt attach work`,
		Args: args("", "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.find(args[0])
			if err != nil {
				return err
			}
			t, err := a.terminal()
			if err != nil {
				return &failure.Error{Doing: "attach", Err: err}
			}
			conn, err := c.DialTerminal()
			if err != nil {
				return &failure.Error{Doing: "attach", Err: err}
			}
			return a.attach(cmd.Context(), t, conn, c.Name)
		},
	}
}

// terminal is that of the user.
func (a *app) terminal() (*console.Terminal, error) {
	out, _ := a.out.(*os.File)
	return console.NewTerminal(a.in, out)
}

// attach shows the terminal of a container until its end, with whose status it ends,
// or until it is detached.
func (a *app) attach(ctx context.Context, t *console.Terminal, conn *net.UnixConn, name string) error {
	how, err := t.Attach(ctx, conn)
	if err != nil {
		return &failure.Error{Doing: "attach " + name, Err: err}
	}
	switch how {
	case console.Detached:
		a.say("%s: detached; ckpt attach %s comes back", name, name)
		return nil
	case console.Elsewhere:
		a.say("%s: attached from another terminal", name)
		return nil
	}
	c, err := a.find(name)
	var e *container.Exit
	if err == nil {
		e, err = c.Wait(ctx)
	}
	if errors.Is(err, failure.ErrNoContainer) {
		a.say("%s: killed and removed", name) // ckpt rm -f
		return statusError(128 + int(unix.SIGKILL))
	}
	if err != nil && c == nil {
		return err
	}
	if m := c.Marker(); err != nil && m != nil {
		hint := "ckpt restore -a " + failure.Quote(m.Image)
		if m.Image == "" {
			hint = "ckpt restore -a DIR"
		}
		a.say("%s: %s; %s continues it", name, m.Dumped(), hint)
		return nil
	}
	if err != nil {
		return err
	}
	return statusError(e.Status())
}

// launchAttached is launch, of which asked is the request, with the container's
// terminal on this one.
func (a *app) launchAttached(ctx context.Context, l launch, asked *container.Request) error {
	if l.foreground {
		return usage(errors.New("-a and --foreground exclude each other"), "leave out --foreground")
	}
	t, err := a.terminal()
	if err != nil {
		return &failure.Error{Doing: "show the terminal of " + l.name, Err: err}
	}
	if l.detaches(a) {
		return a.launchThenAttach(ctx, l, t)
	}
	at, err := container.NewAttachment()
	if err != nil {
		return l.failed(err)
	}
	defer at.Close()
	asked.Attached = at
	if _, err := l.run(ctx); err != nil {
		return l.failed(err)
	}
	return a.attach(ctx, t, at.Conn, l.name)
}

// launchThenAttach connects to the terminal as any other does: the process that stays
// has made it.
func (a *app) launchThenAttach(ctx context.Context, l launch, t *console.Terminal) error {
	if err := a.launch(ctx, l); err != nil {
		return err
	}
	c, err := a.find(l.name)
	if err != nil {
		return err
	}
	conn, err := c.DialTerminal()
	if err != nil {
		return &failure.Error{Doing: "attach", Err: err}
	}
	return a.attach(ctx, t, conn, l.name)
}

func newGuardCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:    console.GuardCommand,
		Short:  "Give back a terminal whose ckpt is killed (ckpt runs this by itself)",
		Hidden: true,
		Args:   args(""),
		RunE:   func(*cobra.Command, []string) error { return console.Guard(os.Stdin, os.Stdout) },
	}
}
