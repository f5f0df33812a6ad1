package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"ckpt/image"
)

func newInspectCommand(a *app) *cobra.Command {
	var asJSON bool
	var keys keyFlags
	cmd := &cobra.Command{
		Use:   "inspect DIR",
		Short: "Tell what is in an image: process tree, memory, files, sockets, ids",
		Long: `Tell what is in an image: the tree of processes with their ids inside, command
lines, threads, memory by kind, descriptors, timers and signals that wait, and all
sockets with their states and addresses. Memory is what the image has of it; "in
common" is what it holds once for several processes. Contents of memory are not
read: ckpt verify does that. DIR may also be a file with a stream of ckpt dump NAME -,
or an image that criu has made.

On a terminal, lines are cut to its width. --json has everything, and the fields that
it has today it will have in later versions.`,
		Example: `  ckpt inspect ./tonight
  ckpt inspect ./tonight --json`,
		Args: args("", "DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return interrupted(cmd.Context(), "inspect "+args[0], runInspect(cmd.Context(), a, keys, args[0], asJSON))
		},
	}
	keys.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func runInspect(ctx context.Context, a *app, keys keyFlags, dir string, asJSON bool) error {
	r, err := keys.open(ctx, a, "inspect", dir)
	if err != nil {
		return err
	}
	defer r.Close()
	s, err := image.Summarize(r)
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	by, err := r.Signer()
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if by != nil {
		s.SignedBy = fingerprint(by)
	}
	if asJSON {
		return a.printJSON(s)
	}
	_, err = fmt.Fprint(a.out, cutLines(summaryText(s), a.width()))
	return err
}
