package image

import "testing"

func TestUserNumber(t *testing.T) {
	users := []*UserNamespace{
		{Id: 2, Around: 1, Uids: []*IDExtent{{Inside: 0, Outside: 1000, Count: 1}, {Inside: 1, Outside: 100000, Count: 10}}},
		{Id: 3, Around: 2, Uids: []*IDExtent{{Inside: 7, Outside: 0, Count: 2}}, Gids: []*IDExtent{{Inside: 0, Outside: 0, Count: 1}}},
		{Id: 4, Around: 4},
	}
	for _, c := range []struct {
		id   uint32
		gids bool
		n    uint32
		want uint32
		ok   bool
	}{
		{1, false, 5, 5, true},
		{2, false, 1000, 0, true},
		{2, false, 100009, 10, true},
		{2, false, 100010, 0, false},
		{2, true, 1000, 0, false},
		{3, false, 1000, 7, true},
		{3, false, 100000, 8, true},
		{3, false, 100001, 0, false},
		{3, true, 0, 0, false},
		{4, false, 0, 0, false},
		{9, false, 0, 0, false},
	} {
		if got, ok := UserNumber(users, c.id, c.gids, c.n); got != c.want || ok != c.ok {
			t.Errorf("%+v: %d %v", c, got, ok)
		}
	}
}
