package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/inspect/core"
)

func newCoreCommand(a *app) *cobra.Command {
	var keys keyFlags
	cmd := &cobra.Command{
		Use:   "core DIR VPID FILE",
		Short: "Write a process of an image as a core file, for a debugger",
		Long: `Write the process that has the id VPID inside the container as an ELF core file,
as the kernel writes one when a program dies: all threads with their registers,
its memory, and what it has mapped. Nothing runs, and nothing is restored: it takes no
root, and not the machine that the image is of. What stands in the file of mapped
files says the process's coredump_filter (core(5)); the debugger finds the rest
by their names. Of files that are not there, or have changed since, nothing is
written, and that is told.

FILE must not exist, or be empty. It is written as FILE.partial, and gets its name
once it is whole. FILE - is standard output; what has gone there when a damage of the image is
found is not taken back.`,
		Example: `  ckpt core ./tonight 2 train.core
  gdb /usr/bin/python3 train.core`,
		Args: args("", "DIR", "VPID", "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			vpid, err := strconv.ParseUint(args[1], 10, 31)
			if err != nil || vpid == 0 {
				return usage(fmt.Errorf("core: %q is no number of a process", args[1]), "`ckpt inspect DIR` tells the processes and their numbers", "usage: "+cmd.UseLine())
			}
			return runCore(cmd.Context(), a, keys, args[0], uint32(vpid), args[2])
		},
	}
	keys.add(cmd)
	return cmd
}

func runCore(ctx context.Context, a *app, keys keyFlags, dir string, vpid uint32, to string) error {
	r, err := keys.open(ctx, a, "core", dir)
	if err != nil {
		return err
	}
	defer r.Close()
	if to == "-" {
		if a.toTerminal() {
			return usage(errors.New("core: a core file is nothing for a terminal"), "lead it elsewhere, or give the name of a file: ckpt core "+failure.Quote(dir)+fmt.Sprintf(" %d FILE", vpid))
		}
		return writeCore(ctx, a, r, dir, vpid, &stream{a.out})
	}
	f, err := newCoreFile(to)
	if err != nil {
		return err
	}
	if err := writeCore(ctx, a, r, dir, vpid, f); err != nil {
		return errors.Join(err, f.abort())
	}
	size, err := f.finish()
	if err != nil {
		return errors.Join(err, f.abort())
	}
	a.say("%s: pid %d as of %s (%s)", to, vpid, dir, bytesText(size))
	return nil
}

// writeCore writes the core and tells of what it lacks.
func writeCore(ctx context.Context, a *app, r *image.Reader, dir string, vpid uint32, out core.Output) error {
	log, err := a.logger()
	if err != nil {
		return err
	}
	shown := a.wait("core", dir)
	r.Report(shown.here)
	lacks, err := core.Write(ctx, r, vpid, out)
	shown.end()
	switch {
	case err != nil && ctx.Err() != nil:
		return failure.Mark(failure.ErrInterrupted, errors.New("core: interrupted; nothing was written"))
	case errors.Is(err, core.ErrNoProcess):
		return usage(fmt.Errorf("core %s: %w", dir, err))
	case err != nil:
		return fmt.Errorf("core %s: %w", dir, err)
	}
	for _, l := range lacks {
		log.Warn("a mapped file is left out", "path", l.Path, "reason", l.Why)
	}
	return nil
}

// coreFile is a file that has its name only once it is whole.
type coreFile struct {
	name  string
	file  *os.File // NAME.partial
	empty bool     // an empty file has the name, and is replaced
}

const partialCore = ".partial"

func newCoreFile(name string) (*coreFile, error) {
	st, err := os.Lstat(name)
	empty := err == nil && st.Mode().IsRegular() && st.Size() == 0
	if err == nil && st.IsDir() {
		return nil, usage(fmt.Errorf("core: %s is a directory", name), "name a file in it: "+failure.Quote(filepath.Join(name, "core")))
	}
	if err == nil && !st.Mode().IsRegular() {
		return nil, failure.WithHint(fmt.Errorf("core: %s is no regular file", name), "give a name that does not exist, or - for standard output")
	}
	if err == nil && !empty {
		return nil, failure.WithHint(fmt.Errorf("core: %s exists", name), "give another name, or remove it: rm "+failure.Quote(name))
	}
	f, err := os.OpenFile(name+partialCore, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case errors.Is(err, os.ErrExist):
		return nil, failure.WithHint(fmt.Errorf("core: %s exists: another ckpt is writing it, or was killed", name+partialCore),
			"if no other is, remove it: rm "+failure.Quote(name+partialCore))
	case err != nil:
		return nil, failure.WithHint(fmt.Errorf("core: %s cannot be made: %w", name+partialCore, failure.WithoutPath(err)), "name a file in a directory that exists, and in which you may write")
	}
	return &coreFile{name, f, empty}, nil
}

func (f *coreFile) Write(b []byte) (int, error) {
	n, err := f.file.Write(b)
	return n, f.failed(err)
}

// Skip leaves a hole.
func (f *coreFile) Skip(n uint64) error {
	_, err := f.file.Seek(int64(n), io.SeekCurrent)
	return f.failed(err)
}

func (f *coreFile) failed(err error) error {
	if errors.Is(err, unix.EFBIG) {
		return failure.WithHint(err, "raise the limit on file sizes (ulimit -f), or write it to a file system that takes larger files")
	}
	return failure.OnDisk(err, f.name)
}

// finish makes the file durable and gives it its name. size is in bytes, holes
// counted.
func (f *coreFile) finish() (size uint64, err error) {
	end, err := f.file.Seek(0, io.SeekCurrent)
	if err == nil {
		err = f.file.Truncate(end) // it may end in a hole
	}
	if err == nil {
		err = f.file.Sync()
	}
	if err == nil {
		err = f.file.Close()
	}
	if err == nil {
		err = f.rename()
	}
	if err != nil {
		return 0, fmt.Errorf("core: finish %s: %w", f.name, f.failed(err))
	}
	return uint64(end), nil
}

func (f *coreFile) rename() error {
	if !f.empty {
		err := unix.Renameat2(unix.AT_FDCWD, f.name+partialCore, unix.AT_FDCWD, f.name, unix.RENAME_NOREPLACE)
		if !errors.Is(err, unix.EINVAL) { // a file system that knows no flags
			return err
		}
	}
	return os.Rename(f.name+partialCore, f.name)
}

func (f *coreFile) abort() error {
	_ = f.file.Close()
	return os.Remove(f.name + partialCore)
}

// stream is an output that cannot go back: holes are written as zeros.
type stream struct{ w io.Writer }

func (s *stream) Write(b []byte) (int, error) { return s.w.Write(b) }

func (s *stream) Skip(n uint64) error {
	_, err := io.CopyN(s.w, zeros{}, int64(n))
	return err
}

// zeros is an endless run of them.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
