package main

import (
	"context"
	"errors"
	"os"

	"github.com/spf13/cobra"

	"ckpt/container"
	"ckpt/failure"
)

func newExecCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "exec NAME -- CMD [ARG...]",
		Short: "Run one more process in it",
		Long: `Run one more process in a container, with this standard input, output and
error, environment and working directory, and exit with its status. Ctrl-C
interrupts it. It belongs to the container: where it is still there, it is
saved with it, and exec exits with 1. It says so, but not if its standard error
is a file: the saved process may have that open, and it must not change.`,
		Example: `  ckpt exec train -- ps -ef`,
		Args:    args("CMD", "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			before, argv, _ := split(cmd, args)
			return runExec(cmd.Context(), a, before[0], argv)
		},
	}
}

func runExec(ctx context.Context, a *app, name string, argv []string) error {
	c, err := a.find(name)
	if err != nil {
		return err
	}
	if len(argv) == 0 {
		return usage(errNoCommand("exec"), "ckpt exec "+name+" -- CMD [ARG...]")
	}
	path, err := container.LookPath(argv[0], os.Environ())
	if err != nil {
		return err
	}
	dir, err := os.Getwd()
	if err != nil {
		dir = "/"
	}
	e, err := c.Exec(ctx, container.ExecRequest{Path: path, Command: argv, Env: os.Environ(), Dir: dir,
		Stdio: [3]*os.File{os.Stdin, os.Stdout, os.Stderr}})
	if errors.Is(err, container.ErrSaved) && isFile(os.Stderr) {
		return statusError(failure.CodeFailed) // told by the status alone, see Long
	}
	if err != nil {
		return err
	}
	return statusError(e.Status())
}

// isFile tells whether f is a regular file.
func isFile(f *os.File) bool {
	st, err := f.Stat()
	return err == nil && st.Mode().IsRegular()
}
