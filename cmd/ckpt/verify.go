package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"ckpt/failure"
)

func newVerifyCommand(a *app) *cobra.Command {
	var keys keyFlags
	cmd := &cobra.Command{
		Use:   "verify DIR",
		Short: "Tell whether an image is whole and untampered",
		Long: `Read the whole image, and its parents, and compare every checksum. Each damage is
told; the exit code is 4 if there is one.

That nobody has changed the image on purpose is known only with --verify-key, of one
that was signed (ckpt dump --sign).`,
		Args: args("", "DIR"),
		RunE: func(cmd *cobra.Command, args []string) error { return runVerify(cmd.Context(), a, keys, args[0]) },
	}
	keys.add(cmd)
	return cmd
}

func runVerify(ctx context.Context, a *app, keys keyFlags, dir string) error {
	r, err := keys.open("verify", dir)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := r.Verify(ctx); err != nil {
		var all []error
		for _, e := range failure.All(err) {
			all = append(all, fmt.Errorf("%s: %w", dir, e))
		}
		return errors.Join(all...)
	}
	by, err := r.Signer()
	if err != nil {
		return err
	}
	signed := ""
	switch {
	case by != nil && keys.verify != "":
		signed = ", signed by " + fingerprint(by)
	case by != nil:
		signed = fmt.Sprintf(", says that %s has signed it: --verify-key compares that", fingerprint(by))
	}
	a.say("%s: whole (%s)%s", dir, bytesText(uint64(r.Size())), signed)
	return nil
}
