package saved

import (
	"path/filepath"
	"strings"
	"testing"

	"ckpt/e2e/harness"
)

// TestSealed: flags of `ckpt dump` hold for each image. One that is encrypted is complete,
// unless there is a key for the one before; and so it is after a restore.
func TestSealed(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		flags      []string
	}{
		{"without a key", "1 2 3", nil},
		{"with a key", "1 2<1 3<2", []string{"--identity", "key", "--verify-key", "ssh.pub"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := harness.New(t, harness.Users()[0])
			cmd := e.Command(t.Context(), "/bin/sh", "-c", "age-keygen -o key 2>said && sed -n 's/^Public key: //p' said >recipient && ssh-keygen -q -t ed25519 -N '' -f ssh")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			flags := append([]string{"--every", "1s", "--to", "saves", "--encrypt", "recipient", "--sign", "ssh", "--compress=fastest"}, tt.flags...)
			c := e.Start("job", flags, harness.Program(t, "refusing.py"))
			c.Says("ready")
			s := untilImage(c, 2)
			c.Remove()
			untilGone(t, s.Saver)
			key := []string{"--identity", "key", "--verify-key", "ssh.pub"}
			e.Restore(e.Join("saves"), "", append([]string{"--latest"}, key...)...)
			untilImage(c, 3)
			c.Remove()
			if at := numbers(t, e.Join("saves")); !strings.HasPrefix(at, tt.want) {
				t.Errorf("there are %s, not %s", at, tt.want)
			}
			for _, i := range images(t, e.Join("saves")) {
				e.Run(append([]string{"verify", i}, key...)...)
				for _, sort := range []string{"ckpt.img.age", "pages-*.img.zst.age", "ckpt-signature.img"} {
					if found, err := filepath.Glob(filepath.Join(i, sort)); err != nil || len(found) == 0 {
						t.Errorf("%s has no %s: %v", i, sort, err)
					}
				}
			}
		})
	}
}
