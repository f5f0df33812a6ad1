package main

import "github.com/spf13/cobra"

func newWaitCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "wait NAME",
		Short: "Wait until its command ends, and exit with its status",
		Long: `Wait until the container's command ends, and exit with its status; after a
signal, with 128 and the signal's number.`,
		Example: `  ckpt wait train && echo done`,
		Args:    args("", "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.find(args[0])
			if err != nil {
				return err
			}
			e, err := c.Wait(cmd.Context())
			if err != nil {
				return err
			}
			return statusError(e.Status())
		},
	}
}

// statusError passes a program's status on; 0 is no error.
func statusError(status int) error {
	if status == 0 {
		return nil
	}
	return programStatus(status)
}
