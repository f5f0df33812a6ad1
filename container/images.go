package container

import (
	"errors"
	"io/fs"
	"os"
	"slices"
)

// NoteImage remembers that the image dir (absolute) was made of the container,
// or the container of it: as long as it is there, what ckpt inside remembers
// outlives the container, since the image does not hold it.
func (c *Container) NoteImage(dir string) error {
	dirs := c.images()
	if slices.Contains(dirs, dir) {
		return nil
	}
	return writeJSON(c.file(imagesFile), append(dirs, dir))
}

// images are those that are there still. A list that cannot be read is empty.
func (c *Container) images() (dirs []string) {
	_, _ = readJSON(c.file(imagesFile), &dirs)
	return slices.DeleteFunc(dirs, func(dir string) bool {
		_, err := os.Stat(dir)
		return errors.Is(err, fs.ErrNotExist)
	})
}
