package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"ckpt/dump"
	"ckpt/failure"
	"ckpt/image"
)

// stdio stands for standard input or output instead of an image's directory.
const stdio = "-"

// spool is the directory for a stream while it is not whole. It may be large, so
// that /tmp, often in memory, is not taken unless the user says so.
func spool() string { return cmp.Or(os.Getenv("TMPDIR"), "/var/tmp") }

// streamOut is standard output for an image, the only thing that is left of the
// container unless that goesOn.
func streamOut(json, goesOn bool) (*dump.Stream, error) {
	if json {
		return nil, usage(errors.New("dump: --json and an image do not both go to standard output"), "leave out --json, or name a directory")
	}
	if isTerminal(1) {
		return nil, usage(errors.New("dump: an image is not for a terminal"), "let a program read it, or a file take it: ckpt dump NAME - > FILE", "or name a directory")
	}
	if !goesOn && isNull(1) {
		return nil, usage(errors.New("dump: standard output is closed, or /dev/null, where the image would be lost, and the container has ended then"),
			"let a program read it, or a file take it: ckpt dump NAME - > FILE", "or let the container go on: --leave-running")
	}
	// Another descriptor than 1: of a reader that has ended it tells by an error,
	// where writing to 1 would end ckpt (os/signal, SIGPIPE).
	fd, err := unix.FcntlInt(1, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("dump: standard output: %w", err)
	}
	return &dump.Stream{Out: os.NewFile(uintptr(fd), "standard output"), Spool: spool()}, nil
}

// notFromInput refuses standard input as an image to look at: that takes going back
// and forth in it.
func notFromInput(command string) error {
	return usage(fmt.Errorf("%s: only `ckpt restore` reads an image from standard input", command), "keep the stream in a file, and name that")
}

// isNull tells whether a descriptor is /dev/null (null(4)), as the runtime of Go makes
// of the first three where they are closed.
func isNull(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == unix.Mkdev(1, 3)
}

// openImage opens the image in a directory or file, or on standard input. p counts
// what comes in there.
func openImage(ctx context.Context, k image.Keys, path string, p *image.Progress) (*image.Reader, error) {
	if path != stdio {
		return k.Open(path)
	}
	if isTerminal(0) {
		return nil, usage(errors.New("restore: an image does not come from a terminal"), "ckpt restore - < FILE", "ckpt dump NAME - | ssh HOST ckpt restore -")
	}
	in := os.NewFile(0, "standard input")
	st, err := in.Stat()
	switch {
	case err == nil && st.IsDir():
		return nil, usage(errors.New("restore: standard input is a directory"), "name it: ckpt restore DIR")
	case err == nil && st.Mode().IsRegular():
		return k.OpenStream(in, in.Name())
	}
	return received(ctx, k, in, p)
}

// received reads a stream to its end, or until ctx ends: whoever writes it may not go on.
func received(ctx context.Context, k image.Keys, in *os.File, p *image.Progress) (*image.Reader, error) {
	var r *image.Reader
	var err error
	done := make(chan struct{})
	go func() {
		r, err = k.ReceiveStream(in, spool(), in.Name(), p)
		close(done)
	}()
	select {
	case <-done:
		return r, err
	case <-ctx.Done():
		return nil, failure.Mark(failure.ErrInterrupted, errors.New("restore: interrupted; nothing was started"))
	}
}
