package restore

import (
	"testing"

	"ckpt/failure"
	"ckpt/image"
)

func TestOtherKernel(t *testing.T) {
	for _, c := range []struct{ kernel, want, hint string }{
		{"6.12.1", "its programs hold code of the kernel they ran on (vDSO of 6.12.1), and this kernel has another", "restore it under the kernel 6.12.1"},
		{"", "its programs hold code of the kernel they ran on (vDSO), and this kernel has another", "restore it under the kernel that criu has dumped it on"},
	} {
		err := checkMachine(&image.Manifest{Machine: &image.Machine{Kernel: c.kernel, Vdso: []byte("another")}}, true)
		if err == nil || err.Error() != c.want || failure.Hints(err)[0] != c.hint || failure.Code(err) != 4 {
			t.Errorf("of %q: %v, hints %q", c.kernel, err, failure.Hints(err))
		}
	}
}
