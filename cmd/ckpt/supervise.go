package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"ckpt/container"
)

func newSuperviseCommand(*app) *cobra.Command {
	return &cobra.Command{
		Use:    container.Supervisor + " NAME STATE",
		Short:  "Be the parent of a container (ckpt runs this by itself)",
		Hidden: true,
		Args:   args("", "NAME", "STATE"),
		RunE:   func(*cobra.Command, []string) error { return container.Supervise(makeContainer) },
	}
}

// makeContainer is a container.Maker.
func makeContainer(ctx context.Context, req *container.Request, logFile *os.File, log *slog.Logger, commit func(*container.Made) error) error {
	switch {
	case req.Start != nil:
		return container.Start(ctx, *req.Start, logFile, log, commit)
	case req.Restore != nil:
		return makeRestored(ctx, req, logFile, log, commit)
	}
	return fmt.Errorf("a request that asks for nothing")
}
