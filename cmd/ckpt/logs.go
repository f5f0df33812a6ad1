package main

import "github.com/spf13/cobra"

func newLogsCommand(a *app) *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "logs [-f] NAME",
		Short: "Print what its processes wrote to standard output and error",
		Long: `Print what the processes of a container have written to standard output and error,
from its start on, also when it has ended. What a program writes elsewhere is not
here. A copy (restore --name) begins with the log that there was when it was saved.`,
		Example: `  ckpt logs train
  ckpt logs -f train | grep epoch`,
		Args: args("", "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.find(args[0])
			if err != nil {
				return err
			}
			return c.Follow(cmd.Context(), a.out, follow)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the container ends")
	return cmd
}
