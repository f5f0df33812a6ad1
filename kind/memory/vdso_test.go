package memory

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/vma"
	"google.golang.org/protobuf/proto"

	"ckpt/procfs"
)

// bare is what a bare child has of the vDSO.
var bare = []procfs.Map{
	{Start: 0x1000, End: 0x2000, Path: "/bin/true"},
	{Start: 0x10000, End: 0x14000, Path: "[vvar]"},
	{Start: 0x14000, End: 0x16000, Path: "[vvar_vclock]"},
	{Start: 0x16000, End: 0x18000, Path: "[vdso]"},
}

func saved(status uint32, start, end uint64) *vma.VmaEntry {
	return &vma.VmaEntry{Start: proto.Uint64(start), End: proto.Uint64(end), Status: proto.Uint32(status)}
}

// The data is one entry of an image or two, by who made it and when.
func TestLivePart(t *testing.T) {
	for _, tt := range []struct {
		name string
		v    *vma.VmaEntry
		want []string
	}{
		{"code", saved(vdso, 0x50000, 0x52000), []string{"[vdso]"}},
		{"both parts of the data", saved(vvar, 0x40000, 0x46000), []string{"[vvar]", "[vvar_vclock]"}},
		{"the first", saved(vvar, 0x40000, 0x44000), []string{"[vvar]"}},
		{"the second", saved(vvar, 0x44000, 0x46000), []string{"[vvar_vclock]"}},
		{"another kernel's code", saved(vdso, 0x50000, 0x51000), nil},
		{"another kernel's data", saved(vvar, 0x40000, 0x45000), nil},
	} {
		var got []string
		for _, m := range livePart(bare, tt.v) {
			got = append(got, m.Path)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestJoinVvar(t *testing.T) {
	read := func(v *vma.VmaEntry) *vma.VmaEntry { v.Prot = proto.Uint32(1); return v }
	for _, tt := range []struct {
		name   string
		last   *vma.VmaEntry
		v      *vma.VmaEntry
		joined bool
	}{
		{"both", saved(vvar, 0x1000, 0x5000), saved(vvar, 0x5000, 0x7000), true},
		{"apart", saved(vvar, 0x1000, 0x5000), saved(vvar, 0x6000, 0x7000), false},
		{"protected otherwise", saved(vvar, 0x1000, 0x5000), read(saved(vvar, 0x5000, 0x7000)), false},
		{"the code", saved(vvar, 0x1000, 0x5000), saved(vdso, 0x5000, 0x7000), false},
		{"other memory", saved(regular, 0x1000, 0x5000), saved(regular, 0x5000, 0x7000), false},
	} {
		if joinVvar([]*vma.VmaEntry{tt.last}, tt.v) != tt.joined || tt.joined != (tt.last.GetEnd() == tt.v.GetEnd()) {
			t.Errorf("%s: %v", tt.name, tt.last)
		}
	}
	if joinVvar(nil, saved(vvar, 0x1000, 0x5000)) {
		t.Error("the first was joined with nothing")
	}
}

// What CRIU has no room for is the end, which says nothing.
func TestAuxiliaryVector(t *testing.T) {
	var b []byte
	for _, v := range []uint64{33, 0x7000, 3, 0, 0, 0, 9, 9} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	if got := words(b); !slices.Equal(got, []uint64{33, 0x7000, 3, 0}) {
		t.Errorf("%v", got)
	}
	if got := words(b[:20]); !slices.Equal(got, []uint64{33, 0x7000}) {
		t.Errorf("cut off: %v", got)
	}
}
