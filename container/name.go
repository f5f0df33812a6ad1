package container

import (
	"fmt"
	"path/filepath"

	"ckpt/failure"
)

const maxName = 64

// CheckName refuses what cannot name a container: names stand in paths and in
// tables, so they are [a-zA-Z0-9][a-zA-Z0-9_.-]* and at most 64 bytes.
func CheckName(name string) error {
	if err := checkName(name); err != nil {
		return failure.WithHint(
			failure.Mark(failure.ErrUsage, fmt.Errorf("%q cannot name a container: %w", name, err)),
			"a name has up to 64 letters (a to z, A to Z), digits, dots, dashes and underscores, and begins with a letter or a digit")
	}
	return nil
}

func checkName(name string) error {
	if name == "" {
		return fmt.Errorf("it is empty")
	}
	if len(name) > maxName {
		return fmt.Errorf("it has %d bytes", len(name))
	}
	for i, c := range name {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case (c == '_' || c == '.' || c == '-') && i > 0:
		case i == 0:
			return fmt.Errorf("it begins with %q", c)
		default:
			return fmt.Errorf("%q is not allowed", c)
		}
	}
	return nil
}

// NameOf makes a name for a container out of a command that was started
// without one: that of its program, without what a name may not hold.
func NameOf(command []string) string {
	name := []byte("tree")
	if len(command) > 0 {
		name = nil
		for _, c := range []byte(filepath.Base(command[0])) {
			if checkName("a"+string(c)) == nil && (len(name) > 0 || checkName(string(c)) == nil) {
				name = append(name, c)
			}
		}
	}
	if len(name) == 0 {
		return "tree"
	}
	return string(name[:min(len(name), maxName)])
}
