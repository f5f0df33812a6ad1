package main

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"strings"
)

const (
	allowChangedUsage = "accept that this `FILE` is not what it was (may be repeated)"
	mapUsage          = "look for files at or below the path OLD at NEW (`OLD=NEW`; may be repeated, the longest OLD decides)"
)

// absolute are the paths of --allow-changed as an image has them.
func absolute(command string, paths []string) (out []string, err error) {
	for _, p := range paths {
		if p == "" {
			return nil, usage(fmt.Errorf("%s: --allow-changed is empty", command), "give the path of a file")
		}
		abs, err := filepath.Abs(p)
		if err != nil {
			return nil, err
		}
		out = append(out, abs)
	}
	return out, nil
}

// parseMoves reads the values of --map. Both paths begin with a slash, so "=/"
// stands between them, and a "=" within one does no harm.
func parseMoves(command string, values []string) (map[string]string, error) {
	moves := map[string]string{}
	for _, v := range values {
		old, now, err := parseMove(v)
		if other, twice := moves[old]; err == nil && twice && other != now {
			err = fmt.Errorf("%s is said to be at %s, too", old, other)
		}
		if err != nil {
			return nil, usage(fmt.Errorf("%s: --map %q: %w", command, v, err), "give two absolute paths: --map /old/directory=/new/directory")
		}
		moves[old] = now
	}
	return moves, nil
}

func parseMove(v string) (old, now string, err error) {
	switch strings.Count(v, "=/") {
	case 1:
	case 0:
		return "", "", errors.New("it is not OLD=NEW, both beginning with a slash")
	default:
		return "", "", errors.New("it has \"=/\" more than once, so that it cannot be told where NEW begins")
	}
	at := strings.Index(v, "=/")
	old, now = v[:at], path.Clean(v[at+1:])
	switch {
	case !path.IsAbs(old):
		return "", "", errors.New("it is not OLD=NEW, both beginning with a slash")
	case path.Clean(old) == "/":
		return "", "", errors.New("everything is below /: the system's own files, too")
	}
	return path.Clean(old), now, nil
}
