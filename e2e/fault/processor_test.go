package fault

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"google.golang.org/protobuf/proto"

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

// TestOtherMachine: a check tells of all that stands in the way, of the machine and
// of what is on it.
func TestOtherMachine(t *testing.T) {
	e := harness.New(t, "")
	dir := elsewhere(t, e, "machine", func(i *imagetest.Image) {
		m := i.Manifest().Machine
		m.Vdso[0] ^= 1
		m.CpuFlags = append(m.CpuFlags, "fma4", "3dnowext")
		for _, f := range i.Files["files.img"].Entries {
			if reg := f.Message.(*fdinfo.FileEntry).GetReg(); strings.HasSuffix(reg.GetName(), "/sleep") {
				reg.Size = proto.Uint64(reg.GetSize() + 1)
			}
		}
	})
	r := e.Try("check", dir)
	if r.Code != 3 || !strings.Contains(r.Out, "would not restore here: 3 things stand in the way") {
		t.Error(r)
	}
	for _, what := range []string{"its programs hold code of the kernel they ran on", "its programs may use instructions", "/sleep changed since the dump"} {
		if !strings.Contains(r.Out, what) {
			t.Errorf("%q is not told: %v", what, r)
		}
	}
	if r := e.Try("restore", dir, "--name", "moved"); r.Code != 4 || !strings.Contains(r.Err, "its programs hold code of the kernel they ran on") {
		t.Error(r)
	}
}

// TestOtherArchitecture: of such an image nothing else can be told.
func TestOtherArchitecture(t *testing.T) {
	e := harness.New(t, "")
	dir := elsewhere(t, e, "arch", func(i *imagetest.Image) { i.Manifest().Machine.Arch = "riscv64" })
	if r := e.Try("check", dir); r.Code != 3 || !strings.Contains(r.Out, "1 thing stands in the way\n  the image is of a riscv64 machine, this one is") {
		t.Error(r)
	}
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
