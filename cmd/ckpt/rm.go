package main

import (
	"errors"

	"github.com/spf13/cobra"

	"ckpt/failure"
)

func newRmCommand(a *app) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "rm [-f] NAME",
		Short: "Forget a container",
		Long: `Forget a container: its log and its exit status. Images of it stay where they
are. One that runs is refused, unless -f kills it first.`,
		Example: `  ckpt rm train
  ckpt rm -f train`,
		Args: args("", "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.store(false)
			if err != nil {
				return err
			}
			c, err := s.Entry(args[0])
			if errors.Is(err, failure.ErrNoContainer) {
				swept, serr := s.Sweep(args[0])
				if swept {
					a.say("%s: removed what is left of a start or restore that was killed", args[0])
					return nil
				}
				return errors.Join(err, serr)
			}
			if err != nil {
				return err
			}
			return c.Remove(cmd.Context(), force)
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "kill its processes first")
	return cmd
}
