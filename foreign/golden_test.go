package foreign

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/mm"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/utsns"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/testing/protocmp"

	"ckpt/e2e/unpack"
	"ckpt/image"
)

// Images that criu 4.1.1 made on Linux 6.18: of e2e/program/carried.c, local, in
// an ipc namespace of its own, and of pid 1 of a pid namespace, with a host name.
const (
	tree = "tree"
	pid1 = "init"
)

// unpacked unpacks one.
func unpacked(t testing.TB, name string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	unpack.File(t, filepath.Join("testdata", name+".tar.gz"), dir)
	return dir
}

func translated(t *testing.T, name string) *image.Reader {
	t.Helper()
	r, err := image.Open(unpacked(t, name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	if err := Translate(r); err != nil {
		t.Fatal(err)
	}
	return r
}

// Every process, thread, group and session; a zombie; memory that CRIU takes for
// a memfd; a file that is mapped to be written.
func TestTree(t *testing.T) {
	r := translated(t, tree)
	m := r.Manifest()
	if len(m.Machine.GetVdso()) == 0 {
		t.Error("it does not tell which vDSO")
	}
	m.Machine.Vdso = nil
	want := &image.Manifest{
		Format: image.Version, Command: []string{"carried"}, MainVpid: 10322, LastPid: 10335, Machine: &image.Machine{Arch: "x86_64"},
		Table: []*image.Identity{
			{Id: 10322, Tgid: 10322, Ppid: 1, Pgid: 10322, Sid: 10322},
			{Id: 10331, Tgid: 10322, Ppid: 1, Pgid: 10322, Sid: 10322},
			{Id: 10332, Tgid: 10332, Ppid: 10322, Pgid: 10332, Sid: 10332},
			{Id: 10333, Tgid: 10333, Ppid: 10322, Pgid: 10322, Sid: 10322},
			{Id: 10334, Tgid: 10334, Ppid: 10322, Pgid: 10322, Sid: 10322, Zombie: true},
			{Id: 10335, Tgid: 10335, Ppid: 10332, Pgid: 10335, Sid: 10332},
		},
	}
	if d := cmp.Diff(want, m, protocmp.Transform()); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	for _, id := range []string{"10322", "10332", "10333", "10334", "10335"} {
		if x, err := image.One[*image.Task](r, image.TaskExtra, id); err != nil || x.GetExitSignal() != uint32(unix.SIGCHLD) {
			t.Errorf("ckpt-task-%s.img: %v, %v", id, x, err)
		}
	}
	ids, err := image.One[*criu_core.TaskKobjIdsEntry](r, image.IDs, "10322")
	if err != nil || ids.GetIpcNsId() != image.NamespaceID || ids.GetNetNsId() != image.NamespaceID {
		t.Errorf("ids-10322.img: %v, %v", ids, err)
	}
	if !r.Has(image.IPCShm, "1") || !r.Has(image.TimeNS, "1") {
		t.Error("it has no System V objects, or no clocks")
	}
	core, err := image.One[*criu_core.CoreEntry](r, image.Core, "10322")
	if err != nil || core.GetThreadCore().GetBlkSigset() != core.GetTc().GetBlkSigset() || core.GetTc().GetBlkSigset() == 0 {
		t.Errorf("core-10322.img: it blocks %#x of %#x, %v", core.GetThreadCore().GetBlkSigset(), core.GetTc().GetBlkSigset(), err)
	}
	checkMapped(t, r)
}

// checkMapped looks at what is mapped shared: the flags of files fit, and memory
// without a name is no file.
func checkMapped(t *testing.T, r *image.Reader) {
	t.Helper()
	files := map[uint64]*fdinfo.FileEntry{}
	all, err := each[*fdinfo.FileEntry](r, image.Files, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		files[uint64(e.GetId())] = e
	}
	m, err := image.One[*mm.MmEntry](r, image.MM, "10322")
	if err != nil {
		t.Fatal(err)
	}
	sorts := map[string]int{}
	for _, v := range m.GetVmas() {
		switch {
		case v.GetStatus()&anonShared != 0:
			sorts["memory"]++
			if pages, err := image.PageRuns(r, fmt.Sprintf("shmem-%d", v.GetShmid())); err != nil {
				t.Errorf("shared memory %d: %v", v.GetShmid(), err)
			} else {
				pages.Close()
			}
		case v.GetStatus()&fileShared != 0:
			e := files[v.GetShmid()]
			sorts[e.GetType().String()]++
			if f := flagsOf(e); f == nil || *f&unix.O_ACCMODE != v.GetFdflags()&unix.O_ACCMODE {
				t.Errorf("the file mapped at %#x is opened otherwise: %v", v.GetStart(), e)
			}
		}
	}
	if d := cmp.Diff(map[string]int{"memory": 4, "REG": 1, "MEMFD": 1}, sorts); d != "" {
		t.Errorf("shared mappings: -want +got:\n%s", d)
	}
}

func TestPID1(t *testing.T) {
	r := translated(t, pid1)
	if m := r.Manifest(); !m.NoInit || m.MainVpid != 1 || len(m.Table) != 1 || m.Table[0].Ppid != 0 {
		t.Errorf("pid 1 is not: %v", m)
	}
	if e, err := image.One[*utsns.UtsnsEntry](r, image.UTSNS, "1"); err != nil || e.GetNodename() != "golden" {
		t.Errorf("host name: %v, %v", e, err)
	}
}
