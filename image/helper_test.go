package image

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/inventory"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/pipe-data"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/pstree"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/utsns"
	"google.golang.org/protobuf/proto"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func create(t *testing.T, dir string) *Writer {
	t.Helper()
	w, err := Create(dir, Options{})
	check(t, err)
	t.Cleanup(func() { _ = w.Abort() })
	return w
}

func open(t *testing.T, dir string) *Reader {
	t.Helper()
	r, err := Open(dir)
	check(t, err)
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func pstreeEntry(pid uint32) *pstree.PstreeEntry {
	return &pstree.PstreeEntry{Pid: proto.Uint32(pid), Ppid: proto.Uint32(1), Pgid: proto.Uint32(2), Sid: proto.Uint32(2), Threads: []uint32{pid, pid + 100}}
}

func pipeEntry(id uint32, n int) *pipe_data.PipeDataEntry {
	return &pipe_data.PipeDataEntry{PipeId: proto.Uint32(id), Bytes: proto.Uint32(uint32(n))}
}

// sample is a small image with every sort of file: entries, entries with
// data, pages, a raw file.
func sample(t *testing.T, dir string) {
	t.Helper()
	w := create(t, dir)
	check(t, w.Add(Inventory, "", &inventory.InventoryEntry{ImgVersion: proto.Uint32(2)}))
	check(t, w.Add(PSTree, "", pstreeEntry(2)))
	check(t, w.Add(PSTree, "", pstreeEntry(3)))
	check(t, w.Add(UTSNS, UTSNS.ID(NamespaceID), &utsns.UtsnsEntry{Nodename: proto.String("box"), Domainname: proto.String("(none)")}))
	check(t, w.Add(PipesData, "", pipeEntry(1, 5), []byte("he"), []byte("llo")))
	check(t, w.Add(PipesData, "", pipeEntry(2, 1), []byte("!")))
	p, err := w.Pages("2")
	check(t, err)
	fill(t, p, 0x10000, 2, 'a')
	fill(t, p, 0x12000, 1, 'b')
	fill(t, p, 0x40000, 1500, 'c')
	f, err := w.File("extra-1.img")
	check(t, err)
	_, err = io.WriteString(f, "raw")
	check(t, err)
	check(t, f.Close())
	check(t, w.Commit(&Manifest{Name: "box"}))
}

// fill adds pages of the byte c.
func fill(t *testing.T, p *PagesWriter, vaddr, pages uint64, c byte) {
	t.Helper()
	check(t, p.Write(vaddr, bytes.Repeat([]byte{c}, int(pages)*PageSize)))
}

// flip changes one byte of a file.
func flip(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	check(t, err)
	defer f.Close()
	var b [1]byte
	_, err = f.ReadAt(b[:], at)
	check(t, err)
	b[0] ^= 0x40
	_, err = f.WriteAt(b[:], at)
	check(t, err)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*"))
	check(t, err)
	for i := range paths {
		paths[i] = filepath.Base(paths[i])
	}
	return paths
}
