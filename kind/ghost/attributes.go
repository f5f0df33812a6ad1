package ghost

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
)

// carried are the extended attributes (xattr(7)) that belong to a file
// wherever it is. The others are labels that the security modules of a machine
// give to each new file.
func carried(name string) bool {
	for _, prefix := range []string{"user.", "trusted.", "system.posix_acl_"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return name == "security.capability"
}

// Attributes reads those of a deleted file.
func Attributes(desc *kind.Desc) ([]*image.Attribute, error) {
	fd := int(desc.File.Fd())
	names, err := sized(func(b []byte) (int, error) { return unix.Flistxattr(fd, b) })
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EBADF) { // O_PATH: open(2)
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list its attributes: %w", err)
	}
	var out []*image.Attribute
	for name := range strings.SplitSeq(string(names), "\x00") {
		if !carried(name) {
			continue
		}
		value, err := sized(func(b []byte) (int, error) { return unix.Fgetxattr(fd, name, b) })
		if err != nil {
			return nil, fmt.Errorf("read its attribute %s: %w", name, err)
		}
		out = append(out, &image.Attribute{Name: name, Value: value})
	}
	return out, nil
}

// sized calls read for the size, and again for the bytes. Only one who holds
// the file could change it in between, and they are stopped.
func sized(read func([]byte) (int, error)) ([]byte, error) {
	n, err := read(nil)
	if err != nil || n == 0 {
		return nil, err
	}
	b := make([]byte, n)
	n, err = read(b)
	if err != nil {
		return nil, err
	}
	return b[:n], nil
}

func setAttributes(f *os.File, all []*image.Attribute) error {
	for _, a := range all {
		if !carried(a.GetName()) {
			return failure.Damagedf("%s with the attribute %s", f.Name(), a.GetName())
		}
		if err := unix.Fsetxattr(int(f.Fd()), a.GetName(), a.GetValue(), 0); err != nil {
			return fmt.Errorf("set the attribute %s of %s: %w", a.GetName(), f.Name(), err)
		}
	}
	return nil
}
