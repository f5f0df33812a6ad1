package image

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/inventory"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/pagemap"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/pipe-data"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/pstree"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/utsns"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
)

// CRIU's own tools must read what we write.
func TestCritReadsOurImages(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "img")
	sample(t, dir)
	enc := base64.StdEncoding.EncodeToString
	for _, tt := range []struct {
		file, magic string
		entry       proto.Message
		want        []proto.Message
		extra       []string
	}{
		{"inventory.img", "INVENTORY", &inventory.InventoryEntry{}, []proto.Message{&inventory.InventoryEntry{ImgVersion: proto.Uint32(2)}}, nil},
		{"pstree.img", "PSTREE", &pstree.PstreeEntry{}, []proto.Message{pstreeEntry(2), pstreeEntry(3)}, nil},
		{"utsns-1.img", "UTSNS", &utsns.UtsnsEntry{}, []proto.Message{&utsns.UtsnsEntry{Nodename: proto.String("box"), Domainname: proto.String("(none)")}}, nil},
		{"pipes-data.img", "PIPES_DATA", &pipe_data.PipeDataEntry{}, []proto.Message{pipeEntry(1, 5), pipeEntry(2, 1)}, []string{enc([]byte("hello")), enc([]byte("!"))}},
		{"pagemap-2.img", "PAGEMAP", &pagemap.PagemapEntry{}, []proto.Message{
			&pagemap.PagemapHead{PagesId: proto.Uint32(1)},
			span{0x10000, 3, PEPresent}.entry(),
			span{0x40000, 1500, PEPresent}.entry(),
		}, nil},
	} {
		f, err := os.Open(filepath.Join(dir, tt.file))
		check(t, err)
		defer f.Close()
		img, err := crit.New(f, nil, "", false, false).Decode(tt.entry)
		if err != nil {
			t.Errorf("%s: %v", tt.file, err)
			continue
		}
		var got []proto.Message
		var extra []string
		for _, e := range img.Entries {
			got = append(got, e.Message)
			if e.Extra != "" {
				extra = append(extra, e.Extra)
			}
		}
		if img.Magic != tt.magic || !cmp.Equal(extra, tt.extra) {
			t.Errorf("%s: magic %s, extra %q", tt.file, img.Magic, extra)
		}
		if d := cmp.Diff(got, tt.want, protocmp.Transform()); d != "" {
			t.Errorf("%s: %s", tt.file, d)
		}
	}
}

// go-criu finds the contents of memory where we put them.
func TestCritFindsOurPages(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "img")
	sample(t, dir)
	mem, err := crit.NewMemoryReader(dir, 2, PageSize)
	check(t, err)
	buf, err := mem.GetMemPages(0x12000, 0x12004)
	check(t, err)
	if buf.String() != "bbbb" {
		t.Errorf("read %q", buf)
	}
}
