package diff

import (
	"hash/crc32"
	"io"

	"ckpt/image"
)

// objects adds what processes use without holding it: of each sort, whether there
// is any, and whether its state is the same.
func objects(r *image.Reader, f facts) error {
	own := image.IPCShm.ID(image.NamespaceID)
	for _, o := range []struct {
		what   string
		format image.Format
		id     string
	}{
		{"System V shared memory", image.IPCShm, own},
		{"System V semaphores", image.IPCSem, own},
		{"System V message queues", image.IPCMsg, own},
		{"System V limits", image.IPCVar, own},
		{"System V last users", image.SysVExtra, own},
		{"POSIX message queues", image.MessageQueues, ""},
		{"file locks", image.FileLocks, ""},
		{"seccomp filters", image.Seccomp, ""},
	} {
		d, err := r.Decode(o.format, o.id)
		if err != nil {
			return err
		}
		if d == nil {
			continue
		}
		n := d.Rest()
		b, err := d.Stream(n)
		if err == nil {
			sum := crc32.NewIEEE()
			_, err = io.Copy(sum, b)
			f.text(o.what, sumText(int(n), sum.Sum32()))
		}
		d.Close()
		if err != nil {
			return err
		}
	}
	return nil
}
