package main

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

const externalUsage = "a unix socket outside that the restore connects to anew: `unix:PATH`, or unix:@NAME of an abstract one (may be repeated)"

// parseExternals reads the values of --external.
func parseExternals(command string, values []string) (out []string, err error) {
	for _, v := range values {
		name, ok := strings.CutPrefix(v, "unix:")
		switch {
		case ok && path.IsAbs(name):
			name = path.Clean(name)
		case ok && len(name) > 1 && name[0] == '@':
		default:
			err = errors.New("it is not unix:PATH with an absolute path, nor unix:@NAME")
		}
		if err == nil && len(name) > 107 {
			err = errors.New("no unix socket has a name of more than 107 bytes")
		}
		if err != nil {
			return nil, usage(fmt.Errorf("%s: --external %q: %w", command, v, err), "what is in the way of a dump is told, by the name to be given: ckpt check NAME")
		}
		out = append(out, "unix:"+name)
	}
	return out, nil
}
