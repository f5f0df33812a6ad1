package tracee

import (
	"strings"
	"testing"
)

func TestLayout(t *testing.T) {
	c := layout()
	if n := strings.Count(string(c.text), string(syscallInsn)); n != 5 {
		t.Errorf("%d SYSCALLs in the code, its places are found by there being 5", n)
	}
	if blockSize() > 1024 {
		t.Errorf("the block takes %d bytes: many a vDSO has not so much room", blockSize())
	}
	t.Logf("code %d bytes, block %d", len(c.text), blockSize())
}
