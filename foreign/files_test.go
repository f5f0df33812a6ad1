package foreign

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/inventory"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/pagemap"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/remap-file-path"
	"google.golang.org/protobuf/proto"

	"ckpt/image"
)

// A deleted file that has another name is opened by that, and is no deleted one.
func TestLinked(t *testing.T) {
	dir := unpacked(t, tree)
	orig := uint32(0)
	alter(t, dir, image.RemapFpath, "", func(e *remap_file_path.RemapFilePathEntry) {
		orig = e.GetOrigId()
		e.RemapType, e.RemapId = remap_file_path.RemapType_LINKED.Enum(), proto.Uint32(1)
	})
	r, err := image.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := Translate(r); err != nil {
		t.Fatal(err)
	}
	files, err := each[*fdinfo.FileEntry](r, image.Files, "")
	if err != nil {
		t.Fatal(err)
	}
	names := map[uint32]string{}
	for _, e := range files {
		names[e.GetId()] = e.GetReg().GetName()
	}
	if names[orig] != names[1] || names[1] == "" {
		t.Errorf("file %d is %q, file 1 is %q", orig, names[orig], names[1])
	}
	left, err := each[*remap_file_path.RemapFilePathEntry](r, image.RemapFpath, "")
	if err != nil || len(left) != 0 {
		t.Errorf("deleted files: %v, %v", left, err)
	}
}

// What did not change since criu pre-dump stands in the image that the link
// leads to.
func TestChain(t *testing.T) {
	dir, before := unpacked(t, tree), t.TempDir()
	for _, name := range []string{"pagemap-10322.img", "pages-5.img"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(before, name), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write(t, before, image.Inventory, &inventory.InventoryEntry{ImgVersion: proto.Uint32(imageVersion)})
	if err := os.Symlink(before, filepath.Join(dir, "parent")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "pages-5.img")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "pagemap-10322.img"), inParent(t, before), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := image.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := Translate(r); err != nil {
		t.Fatal(err)
	}
	whole := translated(t, tree)
	if got, want := r.Manifest().Machine.GetVdso(), whole.Manifest().Machine.GetVdso(); string(got) != string(want) {
		t.Error("the vDSO is another one than in the whole image")
	}
}

// inParent is a pagemap all of whose pages are said to stand in the parent.
func inParent(t *testing.T, dir string) []byte {
	t.Helper()
	r, err := image.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	d, err := r.Decode(image.Pagemap, "10322")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var head pagemap.PagemapHead
	if err := d.Next(&head); err != nil {
		t.Fatal(err)
	}
	out, err := image.Encode(image.Pagemap, &head)
	for err == nil && d.Rest() > 0 {
		var e pagemap.PagemapEntry
		if err = d.Next(&e); err == nil {
			e.Flags = proto.Uint32(image.PEParent)
			out, err = image.AppendEntry(out, &e)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A pidfd, as criu 4.1.1 writes it.
func TestPidfd(t *testing.T) {
	tr := &translation{pidfds: map[uint32]*image.FileExtra{}}
	e := &fdinfo.FileEntry{Type: fdinfo.FdTypes(typePidfd).Enum(), Id: proto.Uint32(6)}
	newer(e, fieldFilePidfd, []byte("\x08\x06\x10\xd6\x81\x9b\x10\x18\x00\x20\xe0\x23\x2a\x0a\x08\x00\x10\x00\x18\x00\x20\x00\x28\x00"))
	if err := tr.pidfd(e); err != nil {
		t.Fatal(err)
	}
	if x := tr.pidfds[6]; x.GetPidfdVpid() != 4576 || x.GetPidfdThread() || e.GetType() != fdinfo.FdTypes_EXT || e.GetExt().GetFown() == nil {
		t.Errorf("%v, %v", x, e)
	}
}
