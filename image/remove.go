package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"ckpt/failure"
)

// Remove removes the image in the directory dir, which holds nothing else. The name
// is gone first, at one stroke: who is killed on the way leaves the image whole, or
// what Clear removes. Images that were made after it are lost with it.
func Remove(dir string) error {
	p, err := standing(dir)
	if err != nil {
		return err
	}
	defer p.close()
	d, err := p.lockPartial(p.name)
	if err == nil && d == nil {
		err = unix.ENOENT
	}
	if err != nil {
		return fmt.Errorf("remove the image %s: %w", dir, err)
	}
	defer d.Close()
	err = onlyImage(d)
	if err == nil {
		err = p.clear()
	}
	if err == nil {
		err = p.retract()
	}
	if err == nil {
		err = p.removeLocked(d)
	}
	if err != nil {
		return failure.OnDisk(fmt.Errorf("remove the image %s: %w", dir, err), dir)
	}
	return nil
}

// Clear removes what was left of an image that should stand in dir by a dump or a
// Remove that was killed: DIR.partial. What is being written stays, and is no error.
func Clear(dir string) error {
	p, err := standing(dir)
	if err != nil {
		return err
	}
	defer p.close()
	return p.clear()
}

// Unfinished tells of a name whether it is DIR.partial, and of which DIR.
func Unfinished(name string) (of string, ok bool) { return strings.CutSuffix(name, partial) }

// standing is the place of dir, whatever stands there.
func standing(dir string) (*place, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	parent, err := os.OpenFile(filepath.Dir(abs), os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	return &place{parent: parent, path: dir, name: filepath.Base(abs)}, nil
}

func (p *place) clear() error {
	var st unix.Stat_t
	err := unix.Fstatat(int(p.parent.Fd()), p.name+partial, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	d, err := p.lockPartial(p.name + partial)
	switch {
	case errors.Is(err, errWriting), err == nil && d == nil:
		return nil
	case err != nil:
		return err
	}
	defer d.Close()
	return p.removeLocked(d)
}

// removeLocked removes NAME.partial, which d is.
func (p *place) removeLocked(d *os.File) error {
	err := removeImage(d)
	if err == nil {
		err = unix.Unlinkat(int(p.parent.Fd()), p.name+partial, unix.AT_REMOVEDIR)
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return failure.WithHint(fmt.Errorf("clear %s, left by a dump that did not finish: %w", p.path+partial, err),
			"look what it is and remove it: rm -r "+failure.Quote(p.path+partial))
	}
	return nil
}

// onlyImage refuses a directory in which anything else is: that would be left.
func onlyImage(d *os.File) error {
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, n := range names {
		if !isFile(n) && n != parentLink && !isLevel(n) {
			return failure.WithHint(fmt.Errorf("it holds %s, which is no file of an image", n), "look what it is and move it away")
		}
	}
	_, err = d.Seek(0, 0)
	return err
}
