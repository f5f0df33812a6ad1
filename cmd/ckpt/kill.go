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
		Long: `Send a signal to the command of a container: as of kill(1), TERM unless -s says
otherwise. It is the command that ends or goes on; with it ends the container. All its
processes are killed by ckpt rm -f.`,
		Example: `  ckpt kill train
  ckpt kill train -s USR1`,
		Args: args("", "NAME"),
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
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { // kill -9 NAME
		return usage(err, "usage: "+cmd.UseLine())
	})
	cmd.Flags().StringVarP(&name, "signal", "s", "TERM", "name (TERM, SIGTERM, RTMIN+3) or number")
	return cmd
}

// The real-time signals that programs may use: the C library keeps the first
// two of the kernel's for itself (signal(7)).
const (
	minRealTime = 34 // SIGRTMIN
	maxSignal   = 64 // SIGRTMAX
)

// signalOf reads "15", "TERM", "SIGTERM" or "RTMIN+3".
func signalOf(s string) (unix.Signal, error) {
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	sig := unix.SignalNum("SIG" + name)
	if from, ok := strings.CutPrefix(name, "RTMIN"); ok {
		sig = realTime(minRealTime, '+', from)
	} else if from, ok := strings.CutPrefix(name, "RTMAX"); ok {
		sig = realTime(maxSignal, '-', from)
	} else if n, err := strconv.ParseUint(s, 10, 8); err == nil && n <= maxSignal {
		sig = unix.Signal(n)
	}
	if sig == 0 {
		return 0, usage(fmt.Errorf("kill: there is no signal %q", s), "`kill -l` lists the signals")
	}
	return sig, nil
}

// realTime is the real-time signal at a distance ("", "+3") from base; 0: none.
func realTime(base int, sign byte, distance string) unix.Signal {
	n := uint64(0)
	if distance != "" {
		var err error
		if n, err = strconv.ParseUint(distance[1:], 10, 8); err != nil || distance[0] != sign || n > maxSignal-minRealTime {
			return 0
		}
	}
	if sign == '-' {
		return unix.Signal(base - int(n))
	}
	return unix.Signal(base + int(n))
}
