package criu

import (
	"os"
	"strings"
	"testing"

	"ckpt/e2e/harness"
)

// What ckpt says of an image of criu's.
func TestSaysOfTheirs(t *testing.T) {
	if os.Geteuid() != 0 {
		return // criu is root's
	}
	e := harness.New(t, "")
	l := e.Launch(true, harness.Program(t, "limits.c"))
	harness.Says(t, l, "ready")
	dir := dumped(e, l.PID)

	if out := e.Run("inspect", dir); !strings.Contains(out, "made by    criu") || !strings.Contains(out, "limits") {
		t.Errorf("inspect: %s", out)
	}
	var check struct {
		Name     string `json:"name"`
		Restores bool   `json:"restores"`
	}
	if e.JSON(&check, "check", dir); check.Name != "limits" || !check.Restores {
		t.Errorf("check: %+v", check)
	}
	if r := e.Try("verify", dir); r.Code != 3 || !strings.Contains(r.Err, "the image is one of criu's and has no checksums") || !strings.Contains(r.Err, "ckpt check") {
		t.Errorf("verify: %s", r)
	}

	// Nothing is made of one with what is not understood.
	e.WriteFile("theirs/wonder-7.img", "something")
	for _, command := range []string{"check", "restore"} {
		r := e.Try(command, dir)
		if r.Code != 3 || !strings.Contains(r.Out+r.Err, "wonder-7.img: what criu keeps in this file is not known") {
			t.Errorf("%s: %s", command, r)
		}
	}
	if err := os.Remove(e.Join("theirs", "wonder-7.img")); err != nil {
		t.Fatal(err)
	}
	e.Restore(dir, "") // called after its program
	e.Own("limits").Remove()
}
