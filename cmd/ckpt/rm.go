package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"ckpt/container"
	"ckpt/failure"
)

func newRmCommand(a *app) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "rm [-f] NAME...",
		Short: "Forget containers",
		Long: `Forget containers: their logs and exit statuses. Images of them stay where they
are. One that runs is refused, unless -f kills it first; the others are forgotten all
the same.`,
		Example: `  ckpt rm train
  ckpt rm -f try1 try2 try3`,
		Args: args("", "NAME..."),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.store(false)
			if err != nil {
				return err
			}
			var errs []error
			for _, name := range args {
				errs = append(errs, a.remove(cmd.Context(), s, name, force))
			}
			return errors.Join(errs...)
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "kill its processes first")
	return cmd
}

func (a *app) remove(ctx context.Context, s *container.Store, name string, force bool) error {
	c, err := s.Entry(name)
	if errors.Is(err, failure.ErrNoContainer) {
		swept, serr := s.Sweep(name)
		if swept {
			a.say("%s: removed what is left of a start or restore that was killed", name)
			return nil
		}
		return errors.Join(err, serr)
	}
	if err != nil {
		return err
	}
	return c.Remove(ctx, force)
}
