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

// Describe notes in x what CRIU's entry has no field for: times to the
// nanosecond, and of regular files and directories attributes and flags.
func Describe(desc *kind.Desc, x *image.FileExtra) error {
	x.MtimeNs, x.AtimeNs = desc.Stat.Mtim.Nano(), desc.Stat.Atim.Nano()
	switch desc.Stat.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR:
	default:
		return nil
	}
	f := desc.File
	if desc.Info.Flags&unix.O_PATH != 0 { // which shows neither (open(2))
		var err error
		if f, err = open(desc); err != nil {
			return err
		}
		defer f.Close()
	}
	var err error
	if x.Attributes, err = attributes(int(f.Fd())); err != nil {
		return err
	}
	x.InodeFlags, err = inodeFlags(int(f.Fd()))
	return err
}

func attributes(fd int) ([]*image.Attribute, error) {
	names, err := sized(func(b []byte) (int, error) { return unix.Flistxattr(fd, b) })
	if errors.Is(err, unix.ENOTSUP) {
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
