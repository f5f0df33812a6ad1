package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func newKillCommand(a *app) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "kill NAME [-s SIGNAL]",
		Short: "Signal its command",
		Args:  args("", "NAME"),
		RunE: func(_ *cobra.Command, args []string) error {
			sig, err := signalOf(name)
			if err != nil {
				return err
			}
			c, err := a.find(args[0])
			if err != nil {
				return err
			}
			return c.Kill(sig)
		},
	}
	cmd.Flags().StringVarP(&name, "signal", "s", "TERM", "name (TERM, SIGTERM) or number")
	return cmd
}

// maxSignal is SIGRTMAX (signal(7)).
const maxSignal = 64

// signalOf reads "15", "TERM" or "SIGTERM".
func signalOf(s string) (unix.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil && n > 0 && n <= maxSignal {
		return unix.Signal(n), nil
	}
	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if sig := unix.SignalNum(name); sig != 0 {
		return sig, nil
	}
	return 0, usage(fmt.Errorf("kill: there is no signal %q", s), "`kill -l` lists the signals")
}
