package sockdiag

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"ckpt/failure"
)

var (
	one  = []byte{22, 0, 0, 0, byFamily, 0, unix.NLM_F_MULTI, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 0, 0}
	two  = []byte{20, 0, 0, 0, byFamily, 0, unix.NLM_F_MULTI, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 8, 9, 10}
	end  = []byte{20, 0, 0, 0, unix.NLMSG_DONE, 0, unix.NLM_F_DUMP_INTR, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	ack  = []byte{20, 0, 0, 0, unix.NLMSG_ERROR, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	none = []byte{20, 0, 0, 0, unix.NLMSG_ERROR, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff}
)

func TestMessages(t *testing.T) {
	all, done, interrupted, err := parse(slices.Concat(one, two))
	if d := cmp.Diff([][]byte{{1, 2, 3, 4, 5, 6}, {7, 8, 9, 10}}, all); d != "" || done || interrupted || err != nil {
		t.Errorf("done %v, interrupted %v, %v\n%s", done, interrupted, err, d)
	}
	if _, done, interrupted, err := parse(end); !done || !interrupted || err != nil {
		t.Errorf("done %v, interrupted %v, %v", done, interrupted, err)
	}
	if _, done, _, err := parse(ack); !done || err != nil {
		t.Errorf("done %v, %v", done, err)
	}
	if _, _, _, err := parse(none); !errors.Is(err, unix.ENOENT) {
		t.Errorf("got %v", err)
	}
	for _, cut := range [][]byte{one[:20], none[:17]} {
		cut = slices.Clone(cut)
		if _, _, _, err := parse(cut); !errors.Is(err, ErrShort) {
			t.Errorf("%v: got %v", cut, err)
		}
	}
}

func TestAttributes(t *testing.T) {
	got := map[uint16][]byte{}
	keep := func(typ uint16, v []byte) error { got[typ] = v; return nil }
	if err := Attributes([]byte{9, 9, 5, 0, 8, 0, 3, 0, 0, 0, 4, 0, 2, 0}, 2, keep); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[uint16][]byte{8: {3}, 2: {}}, got); d != "" {
		t.Error(d)
	}
	for _, cut := range [][]byte{{9}, {9, 9, 6, 0, 8, 0, 3}, {9, 9, 3, 0, 8, 0}} {
		if err := Attributes(cut, 2, keep); !errors.Is(err, ErrShort) {
			t.Errorf("%v: got %v", cut, err)
		}
	}
}

// TestMissingModule: a family that nobody in the kernel answers for.
func TestMissingModule(t *testing.T) {
	nl, err := Here()
	if err != nil {
		t.Fatal(err)
	}
	defer nl.Close()
	_, err = List(nl, []byte{unix.AF_APPLETALK, 0, 0, 0}, "atalk_diag")
	if !errors.Is(err, failure.ErrUnsupported) || len(failure.Hints(err)) != 1 {
		t.Errorf("got %v", err)
	}
}

// TestDestroyNone: no socket is connected like that.
func TestDestroyNone(t *testing.T) {
	request := append([]byte{unix.AF_INET, unix.IPPROTO_TCP, 0, 0, 0xff, 0xff, 0xff, 0xff}, make([]byte, 48)...)
	if err := Destroy(request); !errors.Is(err, unix.ENOENT) {
		t.Errorf("got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, b := range [][]byte{one, two, end, none} {
		f.Add(b)
	}
	f.Fuzz(func(_ *testing.T, b []byte) {
		all, _, _, _ := parse(b)
		for _, m := range all {
			_ = Attributes(m, 4, func(uint16, []byte) error { return nil })
		}
	})
}
