package main

import (
	"github.com/spf13/cobra"

	"ckpt/image"
)

func newVerifyCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "verify DIR",
		Short: "Tell whether an image is whole and untampered",
		Long: `Read the whole image and compare every checksum. Each damage is told; the exit
code is 4 if there is one.`,
		Args: args("", "DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := image.Open(args[0])
			if err != nil {
				return err
			}
			defer r.Close()
			if err := r.Verify(cmd.Context()); err != nil {
				return err
			}
			a.say("%s: whole (%s)", args[0], bytesText(uint64(r.Size())))
			return nil
		},
	}
}
