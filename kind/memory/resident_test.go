package memory

import (
	"slices"
	"testing"

	"ckpt/kind"
)

func TestAppendResident(t *testing.T) {
	there := appendResident(nil, 2*page, []byte{0, 1, 1, 0, 1})
	there = appendResident(there, 7*page, []byte{1, 0xfe, 1})
	want := []kind.Range{{Start: 3 * page, End: 5 * page}, {Start: 6 * page, End: 8 * page}, {Start: 9 * page, End: 10 * page}}
	if !slices.Equal(there, want) {
		t.Errorf("%x, want %x", there, want)
	}
}
