package image

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"ckpt/failure"
)

// addLevel writes the pagemaps of a level, each with a link, for CRIU, to its pages
// file; below the first it makes the level's directory.
func (w *Writer) addLevel(level int, pages []*PagesWriter) error {
	if level > 0 {
		if err := w.to.mkdir(levelDir(level)); err != nil {
			return err
		}
	}
	linked := map[uint32]bool{}
	for _, p := range slices.SortedFunc(slices.Values(pages), func(a, b *PagesWriter) int { return cmp.Compare(a.num, b.num) }) {
		spans, num := p.spans, p.num
		if level > 0 {
			if spans, num = p.atLevel(level); spans == nil {
				continue
			}
			if name := pagesName(num); !linked[num] {
				if err := w.to.link("../"+name, levelName(level, name)); err != nil {
					return err
				}
				linked[num] = true
			}
		}
		if err := w.addPagemap(levelName(level, Pagemap.Name(p.id)), num, spans); err != nil {
			return err
		}
	}
	return nil
}

// linkParent makes CRIU's way from each level to the next, and from the last one to
// the parent image.
func (w *Writer) linkParent(m *Manifest) error {
	to := ""
	if w.parent != nil {
		m.Parent = &Ancestor{Path: w.parentPath, Sha256: w.parent.id}
		to = w.parentPath
	}
	for level := int(m.Levels); level >= 0; level-- {
		if to != "" {
			if level > 0 {
				to = "../" + to
			}
			if err := w.to.link(to, levelName(level, parentLink)); err != nil {
				return err
			}
		}
		to = levelDir(level)
	}
	return nil
}

// pathOfParent is the way from the directory where the image will stand to its
// parent's.
func (p *place) pathOfParent(r *Reader) (string, error) {
	in, ok := r.store.(*directory)
	if !ok {
		return "", failure.WithHint(failure.Mark(failure.ErrUsage, fmt.Errorf("%s is a stream, and an image can be made only after one in a directory", r.store.path())),
			"unpack it, then name the directory: mkdir DIR && tar -xf "+failure.Quote(r.store.path())+" -C DIR")
	}
	to, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", in.dir.Fd()))
	if err != nil {
		return "", fmt.Errorf("find the path of %s: %w", r.store.path(), err)
	}
	from, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", p.parent.Fd()))
	if err != nil {
		return "", fmt.Errorf("find the path of %s: %w", p.parent.Name(), err)
	}
	path, err := filepath.Rel(filepath.Join(from, p.name), to)
	if err != nil {
		return "", fmt.Errorf("find the way from %s to %s: %w", p.path, r.store.path(), err)
	}
	return path, nil
}

// removeLevel removes the directory of a level and nothing that is not of it.
func removeLevel(in *os.File, name string) error {
	fd, err := unix.Openat(int(in.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	d := os.NewFile(uintptr(fd), name)
	defer d.Close()
	if err := removeFiles(d, false); err != nil {
		return err
	}
	if err := unix.Unlinkat(int(in.Fd()), name, unix.AT_REMOVEDIR); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}
