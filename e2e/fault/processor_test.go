package fault

import (
	"encoding/binary"
	"strings"
	"testing"

	"ckpt/e2e/harness"
	"ckpt/e2e/imagetest"
	"ckpt/image"
)

// elsewhere is an image of a sleeping program, as if it came from another machine.
func elsewhere(t *testing.T, e *harness.Env, name string, change func(*imagetest.Image)) string {
	t.Helper()
	c := e.Start(name, nil, harness.Tool(t, "sleep"), "1000")
	dir := e.Join(name + "-here")
	c.Dump(dir)
	c.Remove()
	i, err := imagetest.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	change(i)
	out := e.Join(name)
	if err := i.Write(out); err != nil {
		t.Fatal(err)
	}
	return out
}

// refusedHere: check and restore refuse an image of another machine, say what it
// lacks, and make nothing.
func refusedHere(t *testing.T, e *harness.Env, dir, what string) {
	t.Helper()
	if r := e.Try("check", dir); r.Code != 3 || !strings.Contains(r.Out, what) || !strings.Contains(r.Out, "-> restore it on a machine whose processor has") {
		t.Errorf("check: %v", r)
	}
	if r := e.Try("restore", dir, "--name", "moved"); r.Code != 4 || !strings.Contains(r.Err, what) {
		t.Errorf("restore: %v", r)
	}
	if p := e.Processes(); len(p) > 0 {
		t.Errorf("processes left: %v", p)
	}
}

// TestOtherProcessor: programs choose code by what the processor can do, and keep
// to it.
func TestOtherProcessor(t *testing.T) {
	e := harness.New(t, "")
	dir := elsewhere(t, e, "processor", func(i *imagetest.Image) {
		m := i.Manifest().Machine
		if m.CpuModel == "" || len(m.CpuFlags) == 0 {
			t.Errorf("the image says nothing of the processor: %v", m)
		}
		// 3DNow! and FMA4: no processor has both.
		m.CpuModel, m.CpuFlags = "Imaginary", append(m.CpuFlags, "3dnowext", "fma4", "avx512er", "kernels_own")
	})
	refusedHere(t, e, dir, "its programs may use instructions that this processor")
	refusedHere(t, e, dir, " has not: 3dnowext fma4 avx512er")
	if r := e.Try("check", dir, "--any-cpu"); r.Code != 0 {
		t.Error(r)
	}
	e.Own("moved")
	e.Run("restore", dir, "--name", "moved", "--any-cpu")
}

// TestOtherRegisters: state of registers that this processor has not.
func TestOtherRegisters(t *testing.T) {
	e := harness.New(t, "")
	dir := elsewhere(t, e, "registers", func(i *imagetest.Image) {
		task := i.Files["ckpt-task-2.img"].Entries[0].Message.(*image.Task)
		x := task.Threads[0].Xstate
		const header, none = 512, 1 << 40 // of XSAVE; a component that there is not
		binary.LittleEndian.PutUint64(x[header:], binary.LittleEndian.Uint64(x[header:])|none)
	})
	refusedHere(t, e, dir, "its registers hold state (XSAVE component 40) that this processor has not")
}
