package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"ckpt/failure"
	"ckpt/series"
)

// restoreLatest restores the newest image in dir that is not damaged. Each that is gets
// told as an error of its own, and is left where it is.
func restoreLatest(ctx context.Context, a *app, cmd *cobra.Command, o restoreOptions, dir string) error {
	have, err := series.In(dir)
	if err != nil {
		return fmt.Errorf("restore: look for images in %s: %w", dir, failure.WithoutPath(err))
	}
	if len(have) == 0 {
		return failure.WithHint(fmt.Errorf("restore: there is no image in %s that `ckpt start --every` or `--on-term` has made", dir),
			"name an image: ckpt restore "+failure.Quote(filepath.Join(dir, "IMAGE")))
	}
	for _, i := range slices.Backward(have) {
		image := filepath.Join(dir, i.Name)
		err = runRestore(ctx, a, cmd, o, image)
		if status, ok := errors.AsType[programStatus](err); !errors.Is(err, failure.ErrDamaged) && !(ok && status == failure.CodeDamaged) {
			return err
		}
		if i != have[0] {
			report(a.err, err)
			if err := a.warn("the newest image is damaged, and the one before it is taken", "damaged", image); err != nil {
				return err
			}
		}
	}
	return err
}
