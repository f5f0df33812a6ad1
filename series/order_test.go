package series

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestNames(t *testing.T) {
	at := time.Date(2026, 1, 17, 8, 5, 0, 5, time.FixedZone("", 3600))
	for _, tt := range []struct {
		number, after int
		name          string
	}{{7, 0, "000007-20260117T070500Z"}, {8, 7, "000008-20260117T070500Z-after-000007"}, {1234567, 1234566, "1234567-20260117T070500Z-after-1234566"}} {
		if got := name(tt.number, tt.after, at); got != tt.name {
			t.Errorf("%s, want %s", got, tt.name)
		}
		i, ok := parse(tt.name)
		if !ok || i.Number != tt.number || i.After != tt.after || !i.Made.Equal(at.Truncate(time.Second)) {
			t.Errorf("%s: %+v", tt.name, i)
		}
	}
	for _, s := range []string{"", "latest", "7-20260117T070500Z", "000007-20260117T070500Z.partial", "000007-20261317T070500Z",
		"000000-20260117T070500Z", "000007-20260117T070500Z-after-000007", "x000007-20260117T070500Z", "000007-20260117T070500Z-after-"} {
		if Has(s) {
			t.Errorf("%q is taken for an image's", s)
		}
	}
}

// list is "1 2<1 3<2".
func list(have []Image) string {
	var out []string
	for _, i := range have {
		s := fmt.Sprint(i.Number)
		if i.After != 0 {
			s += fmt.Sprint("<", i.After)
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

// drop takes some images out.
func drop(have, gone []Image) (left []Image) {
	for _, h := range have {
		keep := true
		for _, g := range gone {
			keep = keep && g != h
		}
		if keep {
			left = append(left, h)
		}
	}
	return left
}

// A series as it grows: what there is after each image.
func TestOrder(t *testing.T) {
	for _, tt := range []struct {
		keep int
		want []string
	}{
		{1, []string{"1", "2", "3"}},
		{2, []string{"1", "1 2<1", "1 2<1 3", "3 4<3", "3 4<3 5", "5 6<5"}},
		{3, []string{"1", "1 2<1", "1 2<1 3<2", "1 2<1 3<2 4", "1 2<1 3<2 4 5<4", "4 5<4 6<5", "4 5<4 6<5 7"}},
	} {
		var have []Image
		for n, want := range tt.want {
			number, after := next(have, tt.keep)
			if number != n+1 {
				t.Errorf("keep %d: number %d, want %d", tt.keep, number, n+1)
			}
			have = append(have, Image{Number: number, After: after})
			have = drop(have, spare(have, tt.keep))
			if got := list(have); got != want {
				t.Errorf("keep %d: %q, want %q", tt.keep, got, want)
			}
		}
	}
}

// Whoever is killed between two removals leaves no image without its parent.
func TestRemovedInOrder(t *testing.T) {
	have := []Image{{Number: 1}, {Number: 2, After: 1}, {Number: 3, After: 2}, {Number: 4}, {Number: 5, After: 4}}
	if got := list(spare(have, 1)); got != "3<2 2<1 1" {
		t.Error(got)
	}
}

// A line that somebody has broken ends: the next image is complete.
func TestBrokenLine(t *testing.T) {
	have := []Image{{Number: 2, After: 1}, {Number: 3, After: 2}}
	if number, after := next(have, 9); number != 4 || after != 0 {
		t.Errorf("%d after %d", number, after)
	}
	if got := list(spare(append(have, Image{Number: 4}), 2)); got != "2<1" {
		t.Error(got)
	}
}
