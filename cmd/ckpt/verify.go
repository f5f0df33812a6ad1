package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"ckpt/failure"
	"ckpt/image"
)

func newVerifyCommand(a *app) *cobra.Command {
	var asJSON bool
	var keys keyFlags
	cmd := &cobra.Command{
		Use:   "verify DIR",
		Short: "Tell whether an image is whole and untampered",
		Long: `Read the whole image, and its parents, and compare every checksum. Each damage is
told; the exit code is 4 if there is one. DIR may
also be a file with a stream of ckpt dump NAME -.

That nobody has changed the image on purpose is known only with --verify-key, of one
that was signed (ckpt dump --sign).`,
		Example: `  ckpt verify ./tonight
  ckpt verify ./tonight --verify-key key.pub`,
		Args: args("", "DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runVerify(cmd.Context(), a, keys, args[0], asJSON)
		},
	}
	keys.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func runVerify(ctx context.Context, a *app, keys keyFlags, dir string, asJSON bool) error {
	r, err := keys.open(ctx, a, "verify", dir)
	if err == nil {
		defer r.Close()
		shown := a.wait("verify", dir)
		r.Report(shown.here)
		err = ofImage(dir, r.Verify(ctx))
		shown.end()
	}
	if err != nil && ctx.Err() != nil {
		return interrupted(ctx, "verify "+dir, err)
	}
	if asJSON && (err == nil || errors.Is(err, failure.ErrDamaged)) {
		return errors.Join(a.printJSON(verified(r, dir, keys.verify != "", err)), err)
	}
	if err != nil {
		return err
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

// ofImage names the image in each of the errors in err.
func ofImage(dir string, err error) error {
	var all []error
	for _, e := range failure.All(err) {
		all = append(all, fmt.Errorf("%s: %w", dir, e))
	}
	return errors.Join(all...)
}

// verifiedJSON is what `ckpt verify --json` prints of an image, whole or damaged.
type verifiedJSON struct {
	Image string `json:"image"`
	Whole bool   `json:"whole"`
	Size  int64  `json:"size,omitempty"` // of its own files, in bytes; none of an image that does not open
	// SignedBy is the fingerprint of the key that the image says it is signed by;
	// Vouched: that is the key of --verify-key, and the signature is right.
	SignedBy string   `json:"signed_by,omitempty"`
	Vouched  bool     `json:"vouched"`
	Damage   []string `json:"damage"`
}

// verified makes it; r is nil if the image does not open.
func verified(r *image.Reader, dir string, vouched bool, damage error) verifiedJSON {
	v := verifiedJSON{Image: dir, Whole: damage == nil, Vouched: vouched && damage == nil, Damage: []string{}}
	for _, e := range failure.All(damage) {
		v.Damage = append(v.Damage, e.Error())
	}
	if r == nil {
		return v
	}
	v.Size = r.Size()
	if by, err := r.Signer(); err == nil && by != nil {
		v.SignedBy = fingerprint(by)
	}
	return v
}
