package main

import "github.com/spf13/cobra"

func newRmCommand(a *app) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "rm [-f] NAME",
		Short: "Forget a container",
		Long: `Forget a container: its log and its exit status. Images of it stay where they
are.`,
		Args: args("", "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.store(false)
			if err != nil {
				return err
			}
			c, err := s.Entry(args[0])
			if err != nil {
				return err
			}
			return c.Remove(cmd.Context(), force)
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "kill its processes first")
	return cmd
}
