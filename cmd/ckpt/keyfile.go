package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"ckpt/failure"
)

// fileName is the value of a flag that names a file or directory. It is not empty, as
// that of a script's variable which is not set: the flag would be none then.
type fileName string

func (f *fileName) String() string { return string(*f) }
func (f *fileName) Type() string   { return "string" }

func (f *fileName) Set(s string) error {
	if s == "" {
		return errors.New("it is empty")
	}
	*f = fileName(s)
	return nil
}

// mostKeys bounds a file with keys, in bytes.
const mostKeys = 1 << 20

var (
	errNoKeys   = errors.New("it is empty")
	errManyKeys = fmt.Errorf("it has more than %d bytes, as no file with keys has", mostKeys)
)

// parseFile reads a file with keys, which may be a pipe of the shell's, and parses it.
func parseFile[K any](path string, parse func([]byte) (K, error)) (text []byte, keys K, err error) {
	if text, err = readKeys(path); err == nil {
		keys, err = parse(text)
	}
	return text, keys, err
}

func readKeys(path string) ([]byte, error) {
	// O_NONBLOCK: a FIFO without a writer would be waited for.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, mostKeys+1))
	switch {
	case err != nil:
		return nil, err
	case len(b) > mostKeys:
		return nil, errManyKeys
	case len(bytes.TrimSpace(b)) == 0:
		return nil, errNoKeys
	}
	return b, nil
}

// badKey is a usage error about the key in a file: kind is the hint where the file can
// be read, and has another sort of key.
func badKey(flag, path string, err error, kind string) error {
	if path != "" {
		flag += " " + path
	}
	switch {
	case errors.Is(err, unix.EACCES):
		kind = fmt.Sprintf("let uid %d read the file, or run ckpt as who may", os.Geteuid())
	case errors.Is(err, unix.EISDIR):
		kind = "name the file in it"
	}
	return usage(fmt.Errorf("%s: %w", flag, failure.WithoutPath(err)), kind)
}
