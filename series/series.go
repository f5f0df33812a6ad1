package series

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
)

// Latest is the symbolic link to the newest image, for people and other programs.
// ckpt itself goes by the names: whoever is killed before it is changed leaves it
// one image behind.
const Latest = "latest"

// Series is a directory that its holder alone saves into.
type Series struct {
	path string   // absolute
	dir  *os.File // locked
	made bool     // by Open
}

// Open makes dir (mode 0700) unless it is there, takes it for the caller until Close,
// and removes what a dump that was killed has left in it. A holder that is about to
// end, as when its container has, is waited for.
func Open(dir string) (_ *Series, err error) {
	path, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	s := &Series{path: path}
	switch err := os.Mkdir(path, 0o700); {
	case err == nil:
		s.made = true
	case errors.Is(err, fs.ErrNotExist):
		return nil, failure.WithHint(fmt.Errorf("images cannot be put in %s: there is no directory %s", dir, filepath.Dir(path)),
			"make it first: mkdir -p "+failure.Quote(filepath.Dir(path)))
	case !errors.Is(err, fs.ErrExist):
		return nil, notThere(dir, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Undo())
		}
	}()
	if s.dir, err = os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY, 0); err != nil {
		return nil, notThere(dir, err)
	}
	if err := unix.Access(path, unix.W_OK|unix.X_OK); err != nil {
		return nil, notThere(dir, err)
	}
	if err := s.lock(); err != nil {
		return nil, err
	}
	return s, s.clear()
}

func notThere(dir string, err error) error {
	return failure.WithHint(fmt.Errorf("images cannot be put in %s: %w", dir, failure.WithoutPath(err)),
		fmt.Sprintf("name a directory that uid %d may write", os.Geteuid()))
}

// lockPatience is for a holder whose container has ended.
const lockPatience = 5 * time.Second

// lock takes the directory (flock(2)); the lock ends with its holder.
func (s *Series) lock() error {
	got := make(chan error, 1)
	go func() { // waits until it gets it, or ckpt ends
		for {
			err := unix.Flock(int(s.dir.Fd()), unix.LOCK_EX)
			if err != unix.EINTR {
				got <- err
				return
			}
		}
	}()
	select {
	case err := <-got:
		if err != nil {
			return failure.OnDisk(fmt.Errorf("lock %s: %w", s.path, err), s.path)
		}
		return nil
	case <-time.After(lockPatience):
		return failure.WithHint(fmt.Errorf("another container is saved into %s by itself", s.path), "name another directory: --to DIR")
	}
}

// Close lets others save into the directory.
func (s *Series) Close() error { return s.dir.Close() }

// Undo is Close where no image was made, and leaves nothing that Open has made.
func (s *Series) Undo() error {
	var err error
	if s.dir != nil {
		err = s.dir.Close()
	}
	if s.made {
		err = errors.Join(err, os.Remove(s.path))
	}
	return err
}

// Path is that of the directory, absolute.
func (s *Series) Path() string { return s.path }

// In are the images in a directory, oldest first.
func In(dir string) ([]Image, error) {
	ents, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []Image
	for _, e := range ents {
		if i, ok := parse(e.Name()); ok && e.IsDir() {
			out = append(out, i)
		}
	}
	slices.SortStableFunc(out, func(a, b Image) int { return cmp.Compare(a.Number, b.Number) })
	return out, nil
}

// Next is where the next image goes, and after which it can be made; after is "" where
// it is to be complete.
func (s *Series) Next(keep int, now time.Time) (dir, after string, err error) {
	have, err := In(s.path)
	if err != nil {
		return "", "", err
	}
	number, parent := next(have, keep)
	if parent != 0 {
		after = filepath.Join(s.path, have[len(have)-1].Name)
	}
	return filepath.Join(s.path, name(number, parent, now)), after, nil
}

// Whole is the name for the image that Next has called dir, if it is to have no parent
// after all.
func Whole(dir string) string {
	i, _ := parse(filepath.Base(dir))
	return filepath.Join(filepath.Dir(dir), name(i.Number, 0, i.Made))
}

// Saved is told that the image dir of the series stands: Latest leads to it from here
// on, and those that are neither among the last keep nor needed by one of them go. Where
// one does not, nor do those that it was made after.
func (s *Series) Saved(dir string, keep int) error {
	linked := s.link(filepath.Base(dir))
	have, err := In(s.path)
	if err != nil {
		return errors.Join(linked, err)
	}
	for _, i := range spare(have, keep) {
		if err := image.Remove(filepath.Join(s.path, i.Name)); err != nil {
			return errors.Join(linked, err)
		}
	}
	return errors.Join(linked, s.clear())
}

// link changes Latest at one stroke.
func (s *Series) link(to string) error {
	fresh := filepath.Join(s.path, "."+Latest)
	err := os.Remove(fresh)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = os.Symlink(to, fresh)
	}
	if err == nil {
		err = os.Rename(fresh, filepath.Join(s.path, Latest))
	}
	if err != nil {
		return fmt.Errorf("have %s lead to the newest image: %w", filepath.Join(s.path, Latest), failure.WithoutPath(err))
	}
	return nil
}

// clear removes what dumps, and removals, that were killed have left.
func (s *Series) clear() error {
	ents, err := os.ReadDir(s.path)
	if err != nil {
		return err
	}
	for _, e := range ents {
		if of, ok := image.Unfinished(e.Name()); ok && Has(of) {
			if err := image.Clear(filepath.Join(s.path, of)); err != nil {
				return err
			}
		}
	}
	return nil
}
